use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::{user::ALL_AUTHENTICATED, User};

/// Tokens of a file with lines `token,user,uid[,"group1,group2"]` (API document "Authenticating"). Kept by
/// their hash, so that looking one up takes the same time whatever was guessed.
#[derive(Clone, Debug, Default)]
pub struct StaticTokens {
    users: BTreeMap<[u8; 32], User>,
}

impl StaticTokens {
    /// # Errors
    /// A text that names the first line with fewer than three columns or an empty token.
    pub fn parse(csv: &str) -> Result<Self, String> {
        let mut users = BTreeMap::new();
        for (number, line) in csv.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let columns = split_line(line);
            if columns.len() < 3 || columns[0].is_empty() {
                return Err(format!("token file line {}: expected token,user,uid[,groups]", number + 1));
            }
            let groups = columns.get(3).map_or("", String::as_str);
            let groups: Vec<&str> = groups.split(',').map(str::trim).filter(|g| !g.is_empty()).collect();
            let mut user = User::new(&columns[1], &groups);
            user.uid = columns[2].clone();
            user.add_group(ALL_AUTHENTICATED);
            users.insert(Sha256::digest(&columns[0]).into(), user);
        }
        Ok(Self { users })
    }

    pub fn find(&self, token: &str) -> Option<&User> {
        let key: [u8; 32] = Sha256::digest(token).into();
        self.users.get(&key)
    }
}

/// Columns separated by commas; a column in double quotes may hold commas.
fn split_line(line: &str) -> Vec<String> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            c => columns.last_mut().expect("never empty").push(c),
        }
    }
    columns.iter().map(|c| c.trim().to_owned()).collect()
}
