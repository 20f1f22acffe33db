//! What previews run on. Each engine that the settings can name has its checks here.

use super::Check;
use crate::cli::clusters;
use crate::settings::Settings;

pub(super) async fn checks(settings: &Settings) -> Vec<Check> {
    let mut all = vec![static_site(settings)];
    for (name, trouble) in clusters::ask(&settings.clusters, &settings.roots).await {
        all.push(match trouble {
            None => Check::ok(
                "engine",
                format!("cluster `{name}` answers, and greenroom may make namespaces there"),
            ),
            Some(why) => Check::wrong("engine", format!("cluster `{name}`: {why}"), clusters::REMEDY),
        });
    }
    all
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
