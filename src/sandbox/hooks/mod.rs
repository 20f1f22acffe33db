//! Project webhooks and their health. Tokens are never returned, only whether there is one. Changing
//! the URL clears the secret token and the custom headers unless the same request sets them again.
//!
//! Signing tokens came with 19.0; an older GitLab takes the parameter and does nothing with it. Since 17.11 whatever fails
//! counts alike; before, the fourth 4xx switched a hook off for good.

mod events;
mod routes;

pub(super) use events::Limited;
pub(super) use routes::routes;

use super::{
    delivery::Event,
    json::with,
    params::Params,
    refusal::Refusal,
    state::{Noun, State},
    time,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The flags of a hook, and whether a new hook has them.
const FLAGS: &[(&str, bool)] = &[
    ("enable_ssl_verification", true),
    ("push_events", true),
    ("tag_push_events", false),
    ("merge_requests_events", false),
    ("repository_update_events", false),
    ("issues_events", false),
    ("confidential_issues_events", false),
    ("note_events", false),
    ("confidential_note_events", false),
    ("pipeline_events", false),
    ("wiki_page_events", false),
    ("deployment_events", false),
    ("feature_flag_events", false),
    ("job_events", false),
    ("releases_events", false),
    ("milestone_events", false),
    ("emoji_events", false),
    ("resource_access_token_events", false),
    ("vulnerability_events", false),
];

/// Consecutive failures that pause a hook, and that switch it off for good.
const PAUSED_FROM: u32 = 4;
const DISABLED_FROM: u32 = 40;
/// The failures that switch a hook off before [`ALIKE_SINCE`], when they are 4xx.
const DISABLED_BY_4XX: u32 = 4;
/// Since when failures are not told apart.
const ALIKE_SINCE: (u32, u32) = (17, 11);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(24);

/// One webhook.
#[derive(Debug, Clone)]
pub(super) struct Hook {
    pub(super) id: u64,
    pub(super) project: u64,
    pub(super) url: String,
    name: Option<String>,
    description: Option<String>,
    flags: BTreeMap<&'static str, bool>,
    pub(super) token: Option<String>,
    pub(super) signing_token: Option<String>,
    pub(super) custom_headers: BTreeMap<String, String>,
    branch_filter: Option<String>,
    template: Option<String>,
    created_at: Timestamp,
    failures: u32,
    disabled: bool,
    disabled_until: Option<Timestamp>,
}

impl Hook {
    pub(super) fn wants(&self, event: Event) -> bool {
        self.flags.get(event.flag()).copied().unwrap_or(false)
    }

    /// Whether deliveries are dropped at this moment.
    pub(super) fn paused(&self, now: Timestamp) -> bool {
        self.disabled || self.disabled_until.is_some_and(|until| until > now)
    }

    /// Counts an answer, none where nobody answered; any good one forgets the failures.
    pub(super) fn count(&mut self, code: Option<u16>, alike: bool, now: Timestamp) {
        if matches!(code, Some(200..400)) {
            (self.failures, self.disabled, self.disabled_until) = (0, false, None);
            return;
        }
        self.failures += 1;
        let limit = if !alike && matches!(code, Some(400..500)) { DISABLED_BY_4XX } else { DISABLED_FROM };
        self.disabled |= self.failures >= limit;
        if let Some(doublings) = self.failures.checked_sub(PAUSED_FROM) {
            let pause = SignedDuration::from_mins(1_i64 << doublings.min(20)).min(LONGEST_PAUSE);
            self.disabled_until = now.checked_add(pause).ok();
        }
    }

    fn alert_status(&self, now: Timestamp) -> &'static str {
        match self.paused(now) {
            _ if self.disabled => "disabled",
            true => "temporarily_disabled",
            false => "executable",
        }
    }

    fn describe(&mut self, params: &Params, signs: bool) -> Result<(), Refusal> {
        if let Some(url) = params.text("url") {
            let valid = url::Url::parse(&url).is_ok_and(|url| ["http", "https"].contains(&url.scheme()));
            if !valid {
                return Err(Refusal::unprocessable("Invalid url given"));
            }
            if url != self.url && !self.url.is_empty() {
                self.token = None;
                self.custom_headers.clear();
            }
            self.url = url;
        }
        for (flag, _) in FLAGS {
            if let Some(on) = params.flag(flag) {
                self.flags.insert(flag, on);
            }
        }
        if params.has("token") {
            self.token = params.text("token").filter(|token| !token.is_empty());
        }
        if signs && params.has("signing_token") {
            self.signing_token = params.text("signing_token").filter(|token| !token.is_empty());
        }
        if params.has("custom_headers") {
            let headers: Vec<CustomHeader> = params.structured("custom_headers")?;
            self.custom_headers = headers.into_iter().map(|header| (header.key, header.value)).collect();
        }
        self.name = params.text("name").or_else(|| self.name.take());
        self.description = params.text("description").or_else(|| self.description.take());
        self.branch_filter = params.text("push_events_branch_filter").or_else(|| self.branch_filter.take());
        if params.has("custom_webhook_template") {
            self.template = params.text("custom_webhook_template").filter(|template| !template.is_empty());
        }
        Ok(())
    }
}

#[derive(Debug, serde::Deserialize)]
struct CustomHeader {
    key: String,
    value: String,
}

impl State {
    pub(super) fn hook(&self, project: u64, id: u64) -> Result<&Hook, Refusal> {
        self.project(project)?.hooks.get(&id).ok_or_else(|| Refusal::not_found(""))
    }

    pub(super) fn hook_mut(&mut self, project: u64, id: u64) -> Result<&mut Hook, Refusal> {
        self.project_mut(project)?.hooks.get_mut(&id).ok_or_else(|| Refusal::not_found(""))
    }

    pub(super) fn add_hook(&mut self, project: u64, params: &Params) -> Result<u64, Refusal> {
        let mut hook = Hook {
            id: self.next_id(Noun::Hook),
            project,
            url: String::new(),
            name: None,
            description: None,
            flags: FLAGS.iter().copied().collect(),
            token: None,
            signing_token: None,
            custom_headers: BTreeMap::new(),
            branch_filter: None,
            template: None,
            created_at: self.now(),
            failures: 0,
            disabled: false,
            disabled_until: None,
        };
        hook.describe(params, self.signs())?;
        let id = hook.id;
        self.project_mut(project)?.hooks.insert(id, hook);
        Ok(id)
    }

    /// Whether it knows signing tokens.
    pub(super) fn signs(&self) -> bool {
        self.is_at_least((19, 0))
    }

    /// Whether failed deliveries count alike, whatever was answered.
    pub(super) fn counts_alike(&self) -> bool {
        self.is_at_least(ALIKE_SINCE)
    }

    fn hook_json(&self, hook: &Hook) -> Value {
        let now = self.now();
        let names: Vec<_> =
            hook.custom_headers.keys().map(|key| (key.clone(), json!("[REDACTED]"))).collect();
        let flags: Map<_, _> = hook.flags.iter().map(|(flag, on)| ((*flag).to_owned(), json!(on))).collect();
        let shown = json!({
            "id": hook.id,
            "url": hook.url,
            "name": hook.name,
            "description": hook.description,
            "created_at": time::iso(hook.created_at),
            "alert_status": hook.alert_status(now),
            "disabled_until": hook.disabled_until.filter(|until| *until > now).map(time::iso),
            "url_variables": {},
            "push_events_branch_filter": hook.branch_filter,
            "branch_filter_strategy": "wildcard",
            "custom_webhook_template": hook.template,
            "custom_headers": names.into_iter().collect::<Map<_, _>>(),
            "project_id": hook.project,
            "token_present": hook.token.is_some(),
        });
        let shown = with(shown, Value::Object(flags));
        if self.signs() {
            with(shown, json!({ "signing_token_present": hook.signing_token.is_some() }))
        } else {
            shown
        }
    }
}
