//! What previews run on. Each engine that the settings can name has its checks here.

use super::Check;
use crate::settings::Settings;

pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    vec![static_site(settings)]
}

/// The folder that holds the releases.
fn static_site(settings: &Settings) -> Check {
    let folder = settings.data_dir.display();
    if !settings.data_dir.is_dir() {
        return Check::skipped("engine", format!("{folder} is not here; run this where greenroom runs"));
    }
    match tempfile::Builder::new().prefix("doctor-").tempfile_in(&settings.data_dir) {
        Ok(_) => Check::ok("engine", format!("releases can be written to {folder}")),
        Err(error) => Check::wrong(
            "engine",
            format!("{folder} cannot be written: {error}"),
            "give greenroom's user the right to write there, or set GREENROOM_DATA_DIR",
        ),
    }
}
