//! `$(NAME)` in commands, arguments and variables (API document "Define a Command and Arguments for a
//! Container"): a known name is replaced, an unknown one stays, `$$` is a dollar sign.

use std::collections::BTreeMap;

/// # Example
/// `expand("$(A)-$(B)-$$(A)", {A: "x"})` is `x-$(B)-$(A)`.
pub fn expand(text: &str, variables: &BTreeMap<&str, &str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match variables.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_is_known_and_leaves_the_rest() {
        let variables = BTreeMap::from([("A", "x"), ("EMPTY", "")]);
        for (text, expected) in [
            ("$(A)", "x"),
            ("$(A)-$(B)-$$(A)", "x-$(B)-$(A)"),
            ("a$", "a$"),
            ("$(A", "$(A"),
            ("$$$$", "$$"),
            ("[$(EMPTY)]", "[]"),
            ("é$(A)é", "éxé"),
        ] {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }
}
