//! Runs the scripts in `golden/` and compares the answers below each request. `UPDATE_GOLDEN=1` writes them
//! anew: read the difference before committing it.

use std::path::Path;

use keelstone_env::Env;

use crate::script;

#[test]
fn golden_scripts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let env = Env::os();
    let paths = env.disk().list(&dir).unwrap();
    assert!(!paths.is_empty());
    for path in paths {
        let expected = String::from_utf8(env.disk().read(&path).unwrap()).unwrap();
        let found = script::run(&expected);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            env.disk().write_atomically(&path, found.as_bytes()).unwrap();
        } else {
            assert_eq!(found, expected, "{}", path.display());
        }
    }
}
