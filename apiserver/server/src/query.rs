use keelstone_machinery::status::{ApiResult, ApiStatus};

/// The parameters of a URL, decoded, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Never fails: what is not percent-encoded properly is taken as it stands.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter; empty if it is not there.
    pub fn get(&self, key: &str) -> &str {
        self.find(key).unwrap_or_default()
    }

    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// As Kubernetes reads booleans in queries: present and neither `false` nor `0`.
    pub fn flag(&self, key: &str) -> bool {
        self.find(key).is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"))
    }

    /// # Errors
    /// 400 if the value is not a number.
    pub fn number(&self, key: &str) -> ApiResult<Option<i64>> {
        match self.find(key) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                ApiStatus::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax (parameter {key})"))
            }),
        }
    }

    /// `dryRun`: true for `All`.
    ///
    /// # Errors
    /// 422 for any other value.
    pub fn dry_run(&self) -> ApiResult<bool> {
        let mut dry = false;
        for value in self.all("dryRun") {
            match value {
                "All" => dry = true,
                "" => {}
                other => {
                    return Err(ApiStatus::unprocessable(format!(
                        "dryRun: Unsupported value: {other:?}: supported values: \"All\""
                    )))
                }
            }
        }
        Ok(dry)
    }
}

/// Decodes percent-encoding; in queries `+` is a space.
pub fn decode(text: &str, plus_is_space: bool) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = (bytes[i] == b'%').then(|| bytes.get(i + 1..i + 3)).flatten();
        let byte = hex.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(if plus_is_space && bytes[i] == b'+' { b' ' } else { bytes[i] });
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_kept_in_order() {
        let query = Query::parse("labelSelector=a%3Db%2Cc+d&watch=1&watch=0&x&bad=%zz");
        assert_eq!(query.get("labelSelector"), "a=b,c d");
        assert!(query.flag("watch"));
        assert!(query.flag("x"));
        assert_eq!(query.get("bad"), "%zz");
        assert_eq!(query.all("watch").collect::<Vec<_>>(), ["1", "0"]);
        assert!(query.number("labelSelector").is_err());
        assert_eq!(query.number("missing").unwrap(), None);
    }

    #[test]
    fn dry_run_takes_all_only() {
        assert!(Query::parse("dryRun=All").dry_run().unwrap());
        assert!(!Query::parse("").dry_run().unwrap());
        assert_eq!(Query::parse("dryRun=Some").dry_run().unwrap_err().code, 422);
    }
}
