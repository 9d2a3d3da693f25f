//! Users and roles as they are in the engine, in the column that they share with the alarms.

use bytes::{BufMut, Bytes, BytesMut};
use keelstone_etcd_api::authpb;

use crate::MvccError;

/// What a key of the column is about, after its generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthKey {
    /// `a`, member (8 bytes), alarm (4 bytes).
    Alarm(u64, i32),
    /// `s`: [`AuthRecord`].
    Settings,
    /// `u`, name: [`UserRecord`].
    User(String),
    /// `r`, name: [`RoleRecord`].
    Role(String),
}

impl AuthKey {
    /// The key in the engine.
    pub fn encode(&self, generation: u8) -> Bytes {
        let mut key = BytesMut::new();
        key.put_u8(generation);
        match self {
            Self::Alarm(member, alarm) => {
                key.put_u8(b'a');
                key.put_u64(*member);
                key.put_i32(*alarm);
            }
            Self::Settings => key.put_u8(b's'),
            Self::User(name) => {
                key.put_u8(b'u');
                key.put_slice(name.as_bytes());
            }
            Self::Role(name) => {
                key.put_u8(b'r');
                key.put_slice(name.as_bytes());
            }
        }
        key.freeze()
    }

    pub fn decode(key: &[u8]) -> Result<Self, MvccError> {
        let corrupt = || MvccError::Corrupt("a key of users, roles and alarms cannot be read".to_owned());
        let name = |name: &[u8]| String::from_utf8(name.to_vec()).map_err(|_| corrupt());
        match key.get(1..).and_then(|rest| rest.split_first()) {
            Some((b'a', rest)) => {
                let member = rest.get(..8).and_then(|member| member.try_into().ok()).map(u64::from_be_bytes);
                let alarm = rest.get(8..).and_then(|alarm| alarm.try_into().ok()).map(i32::from_be_bytes);
                member.zip(alarm).map(|(member, alarm)| Self::Alarm(member, alarm)).ok_or_else(corrupt)
            }
            Some((b's', [])) => Ok(Self::Settings),
            Some((b'u', rest)) => name(rest).map(Self::User),
            Some((b'r', rest)) => name(rest).map(Self::Role),
            _ => Err(corrupt()),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AuthRecord {
    #[prost(bool, tag = "1")]
    pub enabled: bool,
    #[prost(uint64, tag = "2")]
    pub revision: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub token_secret: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct UserRecord {
    /// In bcrypt's text form; empty if the user has none.
    #[prost(bytes = "bytes", tag = "1")]
    pub password_hash: Bytes,
    #[prost(bool, tag = "2")]
    pub no_password: bool,
    /// The auth revision at which the password was set.
    #[prost(uint64, tag = "3")]
    pub password_revision: u64,
    /// In order.
    #[prost(string, repeated, tag = "4")]
    pub roles: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RoleRecord {
    /// By key; those of one key in the order in which they were granted.
    #[prost(message, repeated, tag = "1")]
    pub permissions: Vec<authpb::Permission>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_nonsense_is_refused() {
        let keys = [
            AuthKey::Alarm(7, 1),
            AuthKey::Settings,
            AuthKey::User("alice".into()),
            AuthKey::Role(String::new()),
            AuthKey::User("ü/\u{1}".into()),
        ];
        for key in keys {
            assert_eq!(AuthKey::decode(&key.encode(1)).unwrap(), key);
        }
        for nonsense in [&b""[..], b"\x01", b"\x01x", b"\x01sx", b"\x01a1234", b"\x01u\xff"] {
            assert!(AuthKey::decode(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
