//! `repository/archive.zip`: the files of a commit below a folder that GitLab names after project, ref and SHA.

use crate::sandbox::{
    params::Params,
    refusal::{Answer, Refusal},
    state::Gitlab,
    users::{Caller, GUEST},
};
use actix_web::{HttpResponse, web};
use std::{
    collections::BTreeMap,
    io::{Cursor, Write as _},
    sync::Arc,
};
use zip::{ZipWriter, result::ZipResult, write::SimpleFileOptions};

pub(super) fn routes(api: &mut web::ServiceConfig) {
    api.route("/projects/{id}/repository/archive.zip", web::get().to(archive));
}

async fn archive(gitlab: Gitlab, caller: Caller, path: web::Path<String>, params: Params) -> Answer {
    let state = gitlab.lock();
    let project = state.project(state.enter(&caller, &path, GUEST)?)?;
    let reference = params.text("sha").unwrap_or_else(|| "HEAD".to_owned());
    let sha = project.resolve(&reference).ok_or_else(|| Refusal::not_found("File"))?;
    let folder = params.text("path").map(|path| path.trim_matches('/').to_owned()).unwrap_or_default();
    let inside = |file: &str| {
        folder.is_empty() || file.strip_prefix(&*folder).is_some_and(|rest| rest.starts_with('/'))
    };
    let tree = &state.commit(&sha)?.tree;
    let files: BTreeMap<_, _> = tree.iter().filter(|(file, _)| inside(file)).collect();
    let name = reference.replace('/', "-");
    let suffix = if folder.is_empty() { String::new() } else { format!("-{}", folder.replace('/', "-")) };
    let top = format!("{}-{name}-{sha}{suffix}", project.name());
    let packed = pack(&top, &files).map_err(|error| Refusal::bad_request(error.to_string()))?;
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header(("Content-Disposition", format!("attachment; filename=\"{top}.zip\"")))
        .body(packed))
}

fn pack(top: &str, files: &BTreeMap<&String, &Arc<[u8]>>) -> ZipResult<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in files {
        zip.start_file(format!("{top}/{path}"), SimpleFileOptions::default())?;
        zip.write_all(content)?;
    }
    Ok(zip.finish()?.into_inner())
}
