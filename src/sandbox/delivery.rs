//! Webhook deliveries: one background queue per hook (in order unless faults shuffle), a 10 s
//! timeout, no retry, and the record of all of them.
//!
//! GitLab counts 2xx and 3xx as good. A paused hook's events are dropped, not queued.

use super::{
    hooks::Hook,
    json::with,
    refusal::Refusal,
    signature,
    state::{Shared, State},
    time,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;

/// Where fired deliveries wait to be sent: their numbers.
pub(super) type Outbox = UnboundedSender<u64>;

const TIMEOUT: Duration = Duration::from_secs(10);
/// GitLab keeps this much of an answer.
const MAX_KEPT_ANSWER: usize = 8 * 1024;

/// The events that fire hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Push,
    TagPush,
    MergeRequest,
    Note,
    ConfidentialNote,
    Pipeline,
    Job,
    Deployment,
}

impl Event {
    /// `X-Gitlab-Event`.
    pub(super) const fn header(self) -> &'static str {
        match self {
            Self::Push => "Push Hook",
            Self::TagPush => "Tag Push Hook",
            Self::MergeRequest => "Merge Request Hook",
            Self::Note => "Note Hook",
            Self::ConfidentialNote => "Confidential Note Hook",
            Self::Pipeline => "Pipeline Hook",
            Self::Job => "Job Hook",
            Self::Deployment => "Deployment Hook",
        }
    }

    /// The hook's flag in the API.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::Push => "push_events",
            Self::TagPush => "tag_push_events",
            Self::MergeRequest => "merge_requests_events",
            Self::Note => "note_events",
            Self::ConfidentialNote => "confidential_note_events",
            Self::Pipeline => "pipeline_events",
            Self::Job => "job_events",
            Self::Deployment => "deployment_events",
        }
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    /// Not yet sent, or sent and not yet answered.
    Pending,
    /// Sent and answered, whatever the answer was.
    Sent,
    /// Nobody answered: timeout, or no connection.
    Failed,
    /// A fault swallowed it.
    Lost,
    /// The hook was paused.
    Dropped,
}

/// One delivery of one event to one hook.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Delivery {
    /// The event's number in the hook's history.
    pub(super) number: u64,
    /// `webhook-id` and `Idempotency-Key`; a repeat or resend keeps it.
    id: Uuid,
    pub(super) hook: u64,
    project: u64,
    pub(super) url: String,
    /// `X-Gitlab-Event`.
    event: &'static str,
    #[serde(skip)]
    flag: &'static str,
    object_kind: String,
    status: Fate,
    pub(super) response_code: Option<u16>,
    error: Option<String>,
    #[serde(skip)]
    answer: String,
    #[serde(skip)]
    headers: Vec<(String, String)>,
    fired_at: Timestamp,
    /// Exactly what was sent, as text.
    #[serde(skip)]
    raw: Arc<str>,
    body: Value,
}

impl Delivery {
    pub(super) fn pending(&self) -> bool {
        self.status == Fate::Pending
    }

    pub(super) fn was_sent(&self) -> bool {
        matches!(self.status, Fate::Sent | Fate::Failed)
    }

    /// What a test request says of a failure: why nobody answered, else the answer itself.
    pub(super) fn outcome(&self) -> String {
        self.error.clone().unwrap_or_else(|| self.answer.clone())
    }

    /// One entry of `GET …/hooks/:id/events`.
    pub(super) fn event_json(&self) -> Value {
        let headers: serde_json::Map<_, _> =
            self.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "id": self.number,
            "url": self.url,
            "trigger": self.flag.replace("_events", "_hooks"),
            "request_headers": headers,
            "request_data": self.body,
            "response_headers": {},
            "response_body": self.answer,
            "execution_duration": 0.1,
            "response_status": self.response_code.map_or_else(|| "internal error".to_owned(), |code| code.to_string()),
        })
    }
}

impl State {
    /// Tells every hook of the project that wants such events.
    pub(super) fn fire(&mut self, project: u64, event: Event, body: &Value) -> Result<(), Refusal> {
        let hooks = self.project(project)?.hooks.values().filter(|hook| hook.wants(event));
        let fired: Vec<_> = hooks.map(|hook| self.new_delivery(hook, event, body)).collect();
        let now = self.now();
        for mut delivery in fired {
            if self.hook(project, delivery.hook)?.paused(now) {
                delivery.status = Fate::Dropped;
            } else if self.faults.loses() {
                delivery.status = Fate::Lost;
            }
            let copies = if delivery.pending() && self.faults.repeats() { 2 } else { 1 };
            for _ in 0..copies {
                let number = self.enlist(delivery.clone());
                if delivery.pending() {
                    // Nobody listens only while the sandbox stops.
                    self.outbox.send(number).ok();
                }
            }
        }
        Ok(())
    }

    pub(super) fn new_delivery(&self, hook: &Hook, event: Event, body: &Value) -> Delivery {
        Delivery {
            number: 0,
            id: Uuid::new_v4(),
            hook: hook.id,
            project: hook.project,
            url: hook.url.clone(),
            event: event.header(),
            flag: event.flag(),
            object_kind: body.get("object_kind").and_then(Value::as_str).unwrap_or_default().to_owned(),
            status: Fate::Pending,
            response_code: None,
            error: None,
            answer: String::new(),
            headers: Vec::new(),
            fired_at: self.now(),
            raw: body.to_string().into(),
            body: body.clone(),
        }
    }

    /// Puts a delivery into the record as a new attempt and gives its number there.
    pub(super) fn enlist(&mut self, delivery: Delivery) -> u64 {
        self.delivered += 1;
        let number = self.delivered;
        let status = if delivery.was_sent() { Fate::Pending } else { delivery.status };
        self.deliveries.push(Delivery { number, status, response_code: None, error: None, ..delivery });
        number
    }

    pub(super) fn delivery(&self, number: u64) -> Option<&Delivery> {
        self.place_of(number).map(|place| &self.deliveries[place])
    }

    fn settle(&mut self, number: u64, change: impl FnOnce(&mut Delivery)) {
        if let Some(place) = self.place_of(number) {
            change(&mut self.deliveries[place]);
        }
    }

    /// They are in the order of their numbers, though some may have been forgotten.
    fn place_of(&self, number: u64) -> Option<usize> {
        self.deliveries.binary_search_by_key(&number, |delivery| delivery.number).ok()
    }
}

/// Sends what is fired until the sandbox stops; one queue per hook keeps the order.
pub(super) async fn run(gitlab: Arc<Shared>, mut fired: UnboundedReceiver<u64>) {
    let mut queues: HashMap<u64, UnboundedSender<u64>> = HashMap::new();
    while let Some(number) = fired.recv().await {
        let (hook, shuffle) = {
            let state = gitlab.lock();
            (state.delivery(number).map(|delivery| delivery.hook), state.faults.deliveries.shuffle)
        };
        let Some(hook) = hook else { continue };
        if shuffle {
            let gitlab = Arc::clone(&gitlab);
            let wait = Duration::from_millis(u64::from(Uuid::new_v4().as_bytes()[0]));
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                deliver(&gitlab, number, false).await;
            });
            continue;
        }
        let queue = queues.entry(hook).or_insert_with(|| {
            let (queue, mut waiting) = unbounded_channel();
            let gitlab = Arc::clone(&gitlab);
            tokio::spawn(async move {
                while let Some(number) = waiting.recv().await {
                    deliver(&gitlab, number, false).await;
                }
            });
            queue
        });
        queue.send(number).ok();
    }
}

/// Sends one delivery and counts the answer. `forced` ones (tests, resends) go to paused hooks too.
pub(super) async fn deliver(gitlab: &Shared, number: u64, forced: bool) {
    let delay = Duration::from_millis(gitlab.lock().faults.deliveries.delay_ms);
    if !forced && !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let prepared = gitlab.lock().prepare(number, forced);
    if let Some((project, hook, url, headers, body)) = prepared {
        let mut request = gitlab.http.post(url).timeout(TIMEOUT).body(body.as_bytes().to_vec());
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let outcome = match request.send().await {
            Ok(answer) => Ok((answer.status().as_u16(), answer.text().await.unwrap_or_default())),
            Err(error) => Err(error.to_string()),
        };
        let mut state = gitlab.lock();
        let now = state.now();
        let (code, alike) = (outcome.as_ref().ok().map(|(code, _)| *code), state.counts_alike());
        if let Ok(hook) = state.hook_mut(project, hook) {
            hook.count(code, alike, now);
        }
        state.settle(number, |delivery| match outcome {
            Ok((code, mut answer)) => {
                answer.truncate(answer.floor_char_boundary(MAX_KEPT_ANSWER));
                (delivery.status, delivery.response_code, delivery.answer) = (Fate::Sent, Some(code), answer);
            }
            Err(error) => (delivery.status, delivery.error) = (Fate::Failed, Some(error)),
        });
    }
    gitlab.settled.notify_waiters();
}

type Prepared = (u64, u64, String, Vec<(String, String)>, Arc<str>);

impl State {
    /// The request of a delivery, or None when its hook is gone or paused.
    fn prepare(&mut self, number: u64, forced: bool) -> Option<Prepared> {
        let now = self.now();
        let standard = self.signs();
        let agent = format!("GitLab/{}", self.version);
        let delivery = self.delivery(number)?;
        let (project, id, body) = (delivery.project, delivery.hook, Arc::clone(&delivery.raw));
        let (event, key) = (delivery.event, delivery.id);
        let Some(hook) = self.hook(project, id).ok().filter(|hook| forced || !hook.paused(now)) else {
            self.settle(number, |delivery| delivery.status = Fate::Dropped);
            return None;
        };
        let stamp = now.as_second().to_string();
        let mut headers = vec![
            ("Content-Type", "application/json".to_owned()),
            ("User-Agent", agent),
            ("X-Gitlab-Event", event.to_owned()),
            ("X-Gitlab-Instance", self.url.clone()),
            ("X-Gitlab-Event-UUID", Uuid::new_v4().to_string()),
            ("X-Gitlab-Webhook-UUID", Uuid::new_v4().to_string()),
            ("Idempotency-Key", key.to_string()),
        ];
        if standard {
            headers.extend([("webhook-id", key.to_string()), ("webhook-timestamp", stamp.clone())]);
        }
        if let Some(token) = &hook.token {
            headers.push(("X-Gitlab-Token", token.clone()));
        }
        if let Some(signature) = hook
            .signing_token
            .as_ref()
            .filter(|_| standard)
            .and_then(|token| signature::sign(token, &key.to_string(), &stamp, &body))
        {
            headers.push(("webhook-signature", signature));
        }
        let url = hook.url.clone();
        let custom = hook.custom_headers.clone();
        let headers: Vec<_> =
            headers.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(custom).collect();
        let shown = |(name, value): &(String, String)| {
            let hidden = name == "X-Gitlab-Token";
            (name.clone(), if hidden { "[REDACTED]".to_owned() } else { value.clone() })
        };
        let shown = headers.iter().map(shown).collect();
        self.settle(number, |delivery| delivery.headers = shown);
        Some((project, id, url, headers, body))
    }
}

impl State {
    /// What `GET /sandbox/deliveries` shows.
    pub(super) fn deliveries_json(&self) -> Value {
        let shown = self.deliveries.iter();
        let shown = shown.map(|one| with(json!(one), json!({ "fired_at": time::iso(one.fired_at) })));
        Value::Array(shown.collect())
    }
}
