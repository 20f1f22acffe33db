//! The note endpoints.

use super::Note;
use crate::sandbox::{
    json::with,
    pagination::paginate,
    params::Params,
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
    users::{Caller, GUEST, MAINTAINER},
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

type NotePath = web::Path<(String, u64, u64)>;

pub(in crate::sandbox) fn routes(api: &mut web::ServiceConfig) {
    api.service(web::resource("/projects/{id}/merge_requests/{iid}/notes").get(list).post(create)).service(
        web::resource("/projects/{id}/merge_requests/{iid}/notes/{note}").get(get).put(update).delete(delete),
    );
}

async fn list(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, u64)>,
    params: Params,
) -> Answer {
    let (project, iid) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    state.merge_request(project, iid)?;
    let sees_internal = state.project(project)?.role_of(caller.user) > GUEST;
    let filter = params.text("activity_filter").unwrap_or_default();
    let shown = |note: &&Note| {
        (sees_internal || !note.internal)
            && match filter.as_str() {
                "only_comments" => !note.system,
                "only_activity" => note.system,
                _ => true,
            }
    };
    let mut notes: Vec<_> = state.notes_of(project, iid).filter(shown).collect();
    if params.text("order_by").as_deref() == Some("updated_at") {
        notes.sort_by_key(|note| (note.updated_at, note.id));
    }
    if params.text("sort").as_deref() != Some("asc") {
        notes.reverse();
    }
    let notes = notes.into_iter().map(|note| state.note_json(note)).collect::<Result<Vec<_>, _>>()?;
    Ok(paginate(&request, &params, &notes))
}

async fn create(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>, params: Params) -> Answer {
    let (project, iid) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let body = params.required("body")?;
    let internal = params.flag("internal").or_else(|| params.flag("confidential")).unwrap_or(false);
    let written = state.write_note(project, iid, caller.user, &body, internal)?;
    let commands: Map<String, Value> = written.commands.into_iter().collect();
    match written.note {
        None => Ok(HttpResponse::Accepted()
            .json(json!({ "commands_changes": commands, "summary": ["Applied the commands."] }))),
        Some(id) => {
            let note = state.note_json(state.note(project, iid, id)?)?;
            Ok(HttpResponse::Created().json(with(note, json!({ "commands_changes": commands }))))
        }
    }
}

async fn get(gitlab: Gitlab, caller: Caller, path: NotePath) -> Answer {
    let (project, iid, id) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    Ok(HttpResponse::Ok().json(state.note_json(state.note(project, iid, id)?)?))
}

/// Somebody else's note is the Maintainer's to edit.
fn may_change(state: &State, caller: &Caller, project: u64, note: &Note) -> Result<(), Refusal> {
    let role = state.project(project)?.role_of(caller.user);
    if note.author == caller.user || role >= MAINTAINER { Ok(()) } else { Err(Refusal::forbidden()) }
}

async fn update(gitlab: Gitlab, caller: Caller, path: NotePath, params: Params) -> Answer {
    let (project, iid, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    may_change(&state, &caller, project, state.note(project, iid, id)?)?;
    state.edit_note(id, &params.required("body")?)?;
    Ok(HttpResponse::Ok().json(state.note_json(state.note(project, iid, id)?)?))
}

async fn delete(gitlab: Gitlab, caller: Caller, path: NotePath) -> Answer {
    let (project, iid, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    may_change(&state, &caller, project, state.note(project, iid, id)?)?;
    state.notes.remove(&id);
    Ok(HttpResponse::NoContent().finish())
}
