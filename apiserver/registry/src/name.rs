use keelstone_env::Env;

use crate::constants::{GENERATED_PREFIX_CHARS_MAX, GENERATED_SUFFIX_CHARS};

/// Without vowels and without what is easily misread, so that no words come out.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name that begins with `prefix` (cut to fit) and ends in random characters.
pub fn generate(env: &Env, prefix: &str) -> String {
    let mut name: String = prefix.chars().take(GENERATED_PREFIX_CHARS_MAX).collect();
    for _ in 0..GENERATED_SUFFIX_CHARS {
        let at = env.random().below(ALPHABET.len() as u64);
        name.push(char::from(ALPHABET[usize::try_from(at).unwrap_or(0)]));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_valid_labels() {
        let env = Env::os();
        let name = generate(&env, "web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_ne!(name, generate(&env, "web-"));
        assert_eq!(generate(&env, &"a".repeat(100)).len(), 63);
    }
}
