//! Files: read with metadata or raw, create, update, delete; and the tree.

use super::{Change, commits::decode};
use crate::sandbox::{
    pagination::paginate,
    params::Params,
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
    users::{Caller, DEVELOPER, GUEST},
};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};

impl State {
    /// The file at a ref; a ref that is not there is another 404 than a file that is not.
    fn file(&self, project: u64, path: &str, reference: &str) -> Result<(String, Arc<[u8]>), Refusal> {
        let sha = self.project(project)?.commit_of(reference)?;
        let content = self.commit(&sha)?.tree.get(path).cloned();
        Ok((sha, content.ok_or_else(|| Refusal::not_found("File"))?))
    }
}

pub(super) fn routes(api: &mut web::ServiceConfig) {
    api.route("/projects/{id}/repository/tree", web::get().to(tree))
        .service(
            web::resource("/projects/{id}/repository/files/{path}")
                .get(get)
                .post(create)
                .put(update)
                .delete(delete),
        )
        .route("/projects/{id}/repository/files/{path}/raw", web::get().to(raw));
}

async fn get(gitlab: Gitlab, caller: Caller, path: web::Path<(String, String)>, params: Params) -> Answer {
    let (project, path) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let reference = params.required("ref")?;
    let (sha, content) = state.file(project, &path, &reference)?;
    let digest = hex::encode(Sha256::digest(&content));
    Ok(HttpResponse::Ok().json(json!({
        "file_name": path.rsplit('/').next(),
        "file_path": path,
        "size": content.len(),
        "encoding": "base64",
        "content": base64::engine::general_purpose::STANDARD.encode(&content),
        "content_sha256": digest,
        "ref": reference,
        "blob_id": &digest[..40],
        "commit_id": sha,
        "last_commit_id": sha,
        "execute_filemode": false,
    })))
}

async fn raw(gitlab: Gitlab, caller: Caller, path: web::Path<(String, String)>, params: Params) -> Answer {
    let (project, path) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let reference = params.text("ref").unwrap_or_else(|| "HEAD".to_owned());
    let (_, content) = state.file(project, &path, &reference)?;
    Ok(HttpResponse::Ok().content_type("text/plain").body(content.to_vec()))
}

/// The shared part of create, update and delete.
fn write(
    gitlab: &Gitlab,
    caller: &Caller,
    project: &str,
    params: &Params,
    change: &Change,
) -> Result<String, Refusal> {
    let mut state = gitlab.lock();
    let project = state.enter(caller, project, DEVELOPER)?;
    let (branch, message) = (params.required("branch")?, params.required("commit_message")?);
    let start = params.text("start_branch");
    state.commit_on_branch(
        project,
        &branch,
        start.as_deref(),
        std::slice::from_ref(change),
        &message,
        caller.user,
    )?;
    Ok(branch)
}

fn content(params: &Params) -> Result<Vec<u8>, Refusal> {
    decode(&params.required("content")?, params.text("encoding").as_deref())
}

async fn create(gitlab: Gitlab, caller: Caller, path: web::Path<(String, String)>, params: Params) -> Answer {
    let (project, path) = path.into_inner();
    let branch =
        write(&gitlab, &caller, &project, &params, &Change::Create(path.clone(), content(&params)?))?;
    Ok(HttpResponse::Created().json(json!({ "file_path": path, "branch": branch })))
}

async fn update(gitlab: Gitlab, caller: Caller, path: web::Path<(String, String)>, params: Params) -> Answer {
    let (project, path) = path.into_inner();
    let branch =
        write(&gitlab, &caller, &project, &params, &Change::Update(path.clone(), content(&params)?))?;
    Ok(HttpResponse::Ok().json(json!({ "file_path": path, "branch": branch })))
}

async fn delete(gitlab: Gitlab, caller: Caller, path: web::Path<(String, String)>, params: Params) -> Answer {
    let (project, path) = path.into_inner();
    write(&gitlab, &caller, &project, &params, &Change::Delete(path))?;
    Ok(HttpResponse::NoContent().finish())
}

async fn tree(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    params: Params,
) -> Answer {
    let state = gitlab.lock();
    let project = state.project(state.enter(&caller, &path, GUEST)?)?;
    let sha = project.resolve(&params.text("ref").unwrap_or_else(|| "HEAD".to_owned()));
    let sha = sha.ok_or_else(|| Refusal::not_found("Tree"))?;
    let folder = params
        .text("path")
        .filter(|path| !path.is_empty())
        .map(|path| format!("{path}/"))
        .unwrap_or_default();
    let recursive = params.flag("recursive").unwrap_or(false);
    let mut entries: BTreeMap<String, &str> = BTreeMap::new();
    for file in state.commit(&sha)?.tree.keys().filter_map(|file| file.strip_prefix(&folder)) {
        let folders = file.match_indices('/').map(|(end, _)| (&file[..end], "tree"));
        for (path, kind) in
            folders.chain([(file, "blob")]).filter(|(path, _)| recursive || !path.contains('/'))
        {
            entries.insert(path.to_owned(), kind);
        }
    }
    let entry = |(path, kind): (String, &str)| -> Value {
        let full = format!("{folder}{path}");
        json!({
            "id": hex::encode(Sha256::digest(&full))[..40],
            "name": path.rsplit('/').next(),
            "type": kind,
            "path": full,
            "mode": if kind == "tree" { "040000" } else { "100644" },
        })
    };
    let entries: Vec<_> = entries.into_iter().map(entry).collect();
    Ok(paginate(&request, &params, &entries))
}
