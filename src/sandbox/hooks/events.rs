//! A hook's history, resending from it, and test requests. Both are sent while the caller waits.

use crate::sandbox::{
    delivery::{self, Delivery, Event},
    pagination::paginate,
    params::Params,
    payloads,
    refusal::{Answer, Refusal},
    repository::{Push, ZERO},
    state::{Gitlab, State},
    users::{Caller, MAINTAINER},
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

/// A page of events holds at most this many, unlike other lists.
const MAX_PER_PAGE: u64 = 20;

pub(super) async fn list(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, u64)>,
    params: Params,
) -> Answer {
    let (project, id) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, MAINTAINER)?;
    state.hook(project, id)?;
    if params.number("per_page").is_some_and(|number| !(1..=MAX_PER_PAGE).contains(&number)) {
        return Err(Refusal::invalid("per_page does not have a valid value"));
    }
    let wanted = params.list("status").unwrap_or_default();
    let in_class = |wanted: &String, code: Option<u16>| match (wanted.as_str(), code) {
        ("successful", Some(code)) => (200..300).contains(&code),
        ("client_failure", Some(code)) => (400..500).contains(&code),
        ("server_failure", Some(code)) => code >= 500,
        ("server_failure", None) => true,
        (wanted, code) => code.is_some_and(|code| wanted == code.to_string()),
    };
    let shown = |delivery: &&Delivery| {
        delivery.hook == id
            && delivery.was_sent()
            && (wanted.is_empty() || wanted.iter().any(|wanted| in_class(wanted, delivery.response_code)))
    };
    let events: Vec<_> = state.deliveries.iter().rev().filter(shown).map(Delivery::event_json).collect();
    Ok(paginate(&request, &params, &events))
}

pub(super) async fn resend(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64, u64)>) -> Answer {
    let (project, id, event) = path.into_inner();
    let again = {
        let mut state = gitlab.lock();
        let project = state.enter(&caller, &project, MAINTAINER)?;
        state.throttle(Limited::Resend, project, caller.user)?;
        let url = state.hook(project, id)?.url.clone();
        let delivery =
            state.deliveries.iter().find(|delivery| delivery.number == event && delivery.hook == id);
        let delivery = delivery.ok_or_else(|| Refusal::not_found("")).cloned()?;
        if delivery.url != url {
            return Err(Refusal::unprocessable("The hook URL has changed. Unable to resend the event."));
        }
        state.enlist(delivery)
    };
    delivery::deliver(&gitlab, again, true).await;
    match gitlab.lock().delivery(again).and_then(|delivery| delivery.response_code) {
        Some(code) => Ok(HttpResponse::Created().json(json!({ "response_status": code }))),
        None => Err(Refusal::unprocessable("internal error")),
    }
}

pub(super) async fn test(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64, String)>) -> Answer {
    let (project, id, trigger) = path.into_inner();
    let number = {
        let mut state = gitlab.lock();
        let project = state.enter(&caller, &project, MAINTAINER)?;
        state.throttle(Limited::Test, project, caller.user)?;
        let (event, body) = state.sample(project, &trigger, caller.user)?;
        let delivery = state.new_delivery(state.hook(project, id)?, event, &body);
        state.enlist(delivery)
    };
    delivery::deliver(&gitlab, number, true).await;
    let state = gitlab.lock();
    let code = state.delivery(number).and_then(|delivery| delivery.response_code);
    // A redirect counts as good for the hook's health, but not here.
    match code {
        Some(200..300) => Ok(HttpResponse::Created().json(json!({ "message": "201 Created" }))),
        _ => Err(Refusal::unprocessable(state.delivery(number).map_or_else(String::new, Delivery::outcome))),
    }
}

/// What GitLab lets a user do five times a minute in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sandbox) enum Limited {
    Test,
    Resend,
}

const PER_MINUTE: usize = 5;

impl State {
    fn throttle(&mut self, what: Limited, project: u64, user: u64) -> Result<(), Refusal> {
        let minute = self.now().as_second() / 60;
        let (at, times) = self.throttled.entry((what, project, user)).or_default();
        if *at != minute {
            (*at, *times) = (minute, 0);
        }
        *times += 1;
        if *times > PER_MINUTE { Err(Refusal::too_many()) } else { Ok(()) }
    }

    /// A body out of the project's real data, as GitLab's test requests have; 422 without any.
    fn sample(&self, project: u64, trigger: &str, user: u64) -> Result<(Event, Value), Refusal> {
        let known = self.project(project)?;
        let none = |what: &str| Refusal::unprocessable(format!("Ensure the project has {what}."));
        Ok(match trigger {
            "push_events" => {
                let head =
                    known.branches.get(&known.default_branch).ok_or_else(|| none("at least one commit"))?;
                let reference = format!("refs/heads/{}", known.default_branch);
                let push = Push { reference, before: ZERO.to_owned(), after: head.clone() };
                (Event::Push, payloads::push(self, project, &push, user)?)
            }
            "merge_requests_events" => {
                let last = known.merge_requests.values().next_back().ok_or_else(|| none("merge requests"))?;
                let body = payloads::merge_request(self, known, last, "update", None, &json!({}), user);
                (Event::MergeRequest, body)
            }
            "note_events" => {
                let last = self
                    .notes
                    .values()
                    .rev()
                    .find(|note| note.project == project)
                    .ok_or_else(|| none("notes"))?;
                (Event::Note, payloads::note(self, last, "create")?)
            }
            "job_events" => {
                let last =
                    known.jobs.values().rev().find(|job| !job.bridge).ok_or_else(|| none("CI jobs"))?;
                (Event::Job, payloads::build(self, project, last)?)
            }
            "pipeline_events" => {
                let last = known.pipelines.values().next_back().ok_or_else(|| none("CI pipelines"))?;
                (Event::Pipeline, payloads::pipeline(self, project, last)?)
            }
            _ => return Err(Refusal::invalid("trigger does not have a valid value")),
        })
    }
}
