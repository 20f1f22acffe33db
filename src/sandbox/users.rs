//! Users, their tokens and their roles. A project access token is a bot user named
//! `project_<id>_bot_<random>`; an unknown or expired token is 401, a scope that does not allow
//! writing is 403 `insufficient_scope`.

use super::{
    json::with,
    pagination::paginate,
    params::Params,
    refusal::{Answer, Refusal},
    state::{Gitlab, Noun, State},
    time,
};
use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    dev::Payload,
    http::{Method, header::HeaderMap},
    web,
};
use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use serde_json::{Value, json};
use std::future::{Ready, ready};

pub(super) const GUEST: u8 = 10;
pub(super) const DEVELOPER: u8 = 30;
pub(super) const MAINTAINER: u8 = 40;

/// One account.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) id: u64,
    pub(super) username: String,
    pub(super) name: String,
    pub(super) bot: bool,
    pub(super) created_at: Timestamp,
}

/// A personal or project access token.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) id: u64,
    pub(super) user: u64,
    pub(super) scopes: Vec<String>,
    pub(super) created_at: Timestamp,
    pub(super) expires_on: Date,
    pub(super) revoked: bool,
}

/// Who sent the request: proof that the token was good.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) user: u64,
    token: String,
}

impl FromRequest for Caller {
    type Error = Refusal;
    type Future = Ready<Result<Self, Refusal>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(authenticate(request))
    }
}

fn authenticate(request: &HttpRequest) -> Result<Caller, Refusal> {
    let gitlab = request.app_data::<Gitlab>().ok_or_else(Refusal::unauthorized)?;
    let sent = sent_token(request.headers(), request.query_string()).ok_or_else(Refusal::unauthorized)?;
    let state = gitlab.lock();
    let token = state.tokens.get(&sent).ok_or_else(Refusal::unauthorized)?;
    let today = state.now().to_zoned(TimeZone::UTC).date();
    if token.revoked || token.expires_on <= today {
        return Err(Refusal::unauthorized());
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !token.scopes.iter().any(|scope| scope == "api" || (reads && scope == "read_api")) {
        return Err(Refusal::insufficient_scope());
    }
    Ok(Caller { user: token.user, token: sent })
}

/// The token of a request, from wherever GitLab looks for it.
pub(super) fn sent_token(headers: &HeaderMap, query: &str) -> Option<String> {
    let header = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
    header("PRIVATE-TOKEN")
        .or_else(|| header("Authorization")?.strip_prefix("Bearer ").map(str::to_owned))
        .or_else(|| Params::from_query(query).text("private_token"))
}

impl State {
    /// Adds an account with a token of full scope that lives for a year.
    pub(super) fn add_user(&mut self, username: &str, name: &str, bot: bool) -> u64 {
        let id = self.next_id(Noun::User);
        let created_at = self.now();
        let user = User { id, username: username.to_owned(), name: name.to_owned(), bot, created_at };
        self.users.insert(id, user);
        id
    }

    pub(super) fn add_token(&mut self, user: u64, token: &str, scopes: &[String], expires_on: Option<Date>) {
        let id = self.next_id(Noun::Token);
        let created_at = self.now();
        let next_year = || created_at.to_zoned(TimeZone::UTC).date().saturating_add(1.year());
        let token_row = Token {
            id,
            user,
            scopes: scopes.to_vec(),
            created_at,
            expires_on: expires_on.unwrap_or_else(next_year),
            revoked: false,
        };
        self.tokens.insert(token.to_owned(), token_row);
    }

    pub(super) fn find_user(&self, username: &str) -> Result<u64, Refusal> {
        let found = self.users.values().find(|user| user.username == username);
        found.map(|user| user.id).ok_or_else(|| Refusal::not_found("User"))
    }

    /// `UserBasic`; null for an account that is gone.
    pub(super) fn user_basic(&self, id: u64) -> Value {
        self.users.get(&id).map_or(Value::Null, |user| {
            json!({
                "id": user.id,
                "username": user.username,
                "public_email": "",
                "name": user.name,
                "state": "active",
                "locked": false,
                "avatar_url": null,
                "web_url": format!("{}/{}", self.url, user.username),
            })
        })
    }

    /// The longer form, as in `GET /user` and in jobs.
    pub(super) fn user_public(&self, id: u64) -> Value {
        let Some(user) = self.users.get(&id) else { return Value::Null };
        let more = json!({
            "created_at": time::iso(user.created_at),
            "bot": user.bot,
            "bio": "",
            "location": "",
            "linkedin": "",
            "twitter": "",
            "website_url": "",
            "job_title": "",
            "organization": "",
            "pronouns": null,
            "work_information": null,
            "local_time": null,
        });
        with(self.user_basic(id), more)
    }

    fn member(&self, user: u64, role: u8) -> Value {
        let more = json!({
            "access_level": role,
            "created_at": time::iso(self.now()),
            "expires_at": null,
            "membership_state": "active",
        });
        with(self.user_basic(user), more)
    }
}

pub(super) fn routes(api: &mut web::ServiceConfig) {
    api.route("/user", web::get().to(current))
        .route("/users", web::get().to(by_username))
        .route("/users/{user}", web::get().to(by_id))
        .route("/personal_access_tokens/self", web::get().to(own_token))
        .route("/projects/{id}/members", web::get().to(members))
        .route("/projects/{id}/members/all", web::get().to(members))
        .route("/projects/{id}/members/{user}", web::get().to(member))
        .route("/projects/{id}/members/all/{user}", web::get().to(member));
}

async fn current(gitlab: Gitlab, caller: Caller) -> Answer {
    Ok(HttpResponse::Ok().json(gitlab.lock().user_public(caller.user)))
}

async fn by_username(gitlab: Gitlab, _: Caller, request: HttpRequest, params: Params) -> Answer {
    let state = gitlab.lock();
    let wanted = params.text("username");
    let matches = |user: &&User| wanted.as_ref().is_none_or(|wanted| *wanted == user.username);
    let users: Vec<_> = state.users.values().filter(matches).map(|user| state.user_basic(user.id)).collect();
    Ok(paginate(&request, &params, &users))
}

async fn by_id(gitlab: Gitlab, _: Caller, path: web::Path<u64>) -> Answer {
    match gitlab.lock().user_public(path.into_inner()) {
        Value::Null => Err(Refusal::not_found("User")),
        user => Ok(HttpResponse::Ok().json(user)),
    }
}

async fn own_token(gitlab: Gitlab, caller: Caller) -> Answer {
    let state = gitlab.lock();
    let token = state.tokens.get(&caller.token).ok_or_else(Refusal::unauthorized)?;
    Ok(HttpResponse::Ok().json(json!({
        "id": token.id,
        "name": "greenroom",
        "revoked": token.revoked,
        "created_at": time::iso(token.created_at),
        "description": null,
        "scopes": token.scopes,
        "user_id": token.user,
        "last_used_at": null,
        "active": true,
        "expires_at": token.expires_on.to_string(),
        "last_used_ips": [],
    })))
}

async fn members(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    params: Params,
) -> Answer {
    let state = gitlab.lock();
    let project = state.project(state.enter(&caller, &path, GUEST)?)?;
    let members: Vec<_> = project.members.iter().map(|(user, role)| state.member(*user, *role)).collect();
    Ok(paginate(&request, &params, &members))
}

async fn member(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>) -> Answer {
    let (project, user) = path.into_inner();
    let state = gitlab.lock();
    let project = state.project(state.enter(&caller, &project, GUEST)?)?;
    let role = project.members.get(&user).ok_or_else(|| Refusal::not_found(""))?;
    Ok(HttpResponse::Ok().json(state.member(user, *role)))
}
