//! Real parts that a machine may lack: named by an environment variable, which `ci/test` sets.

use std::{env, ffi::OsString, io::Write as _, sync::Mutex};

static NAMED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

/// The part named by `variable`. Without it the caller leaves out what it covers: that is said once on stderr, and is a
/// failure under `GREENROOM_TEST_REQUIRE_ALL=1`.
pub fn part(variable: &'static str, covers: &str) -> Option<OsString> {
    let part = env::var_os(variable).filter(|value| !value.is_empty());
    if part.is_none() {
        let required = env::var_os("GREENROOM_TEST_REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(!required, "{variable} is not set, and nothing may be skipped here: {covers}");
        let mut named = NAMED.lock().unwrap();
        if !named.contains(&variable) {
            named.push(variable);
            // Not `eprintln!`: the harness swallows that of a test that passes.
            let _ = writeln!(std::io::stderr(), "skipped, {variable} is not set: {covers}");
        }
    }
    part
}
