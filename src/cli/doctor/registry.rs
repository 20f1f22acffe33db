//! The registry with the images of a project.

use super::Check;
use crate::gitlab::{Error, Forge, Image};
use crate::preview::{EngineKind, ProjectId};
use crate::settings::{Settings, SharedSecret};

/// A tag that nobody has: whoever lets us look says that it is missing.
const TAG: &str = "greenroom-doctor";

/// Whether images of the project can be looked for, by GitLab's token or the project's pull secret.
pub(super) async fn check(
    settings: &Settings,
    forge: &Forge,
    id: ProjectId,
    path: &str,
) -> Result<Check, Error> {
    let project = settings.project(path);
    let engines = project.rules().engines;
    if engines.is_some_and(|engines| !engines.value.contains(&EngineKind::Kubernetes)) {
        return Ok(Check::skipped("registry", format!("previews of `{path}` may not be made of images")));
    }
    let Some(prefix) = forge.registry_image(id).await? else {
        return Ok(Check::skipped("registry", format!("GitLab has no registry for `{path}`")));
    };
    let Some(image) = Image::parse(&format!("{prefix}:{TAG}")) else {
        let text = format!("GitLab tells of images of `{path}` by a name that is none");
        return Ok(Check::wrong("registry", text, "see `registry_external_url` in GitLab's own settings"));
    };
    let pull_secret = project.on_cluster.pull_secret.value.as_ref().map(SharedSecret::text);
    Ok(match forge.image_digest(id, &image, pull_secret.as_ref()).await {
        Ok(_) => Check::ok("registry", format!("images of `{path}` can be looked for")),
        Err(error) => Check::wrong(
            "registry",
            format!("images of `{path}` cannot be looked for: {error}"),
            "mend that before the project has previews on a cluster; it is of no matter to static ones",
        ),
    })
}
