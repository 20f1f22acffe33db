//! Request parameters, as GitLab reads them: query string, JSON body and form body are one pool of
//! names, numbers may come as text, and lists as `a,b` or as repeated `name[]`.

use super::refusal::Refusal;
use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Bytes};
use futures::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// All parameters of one request.
#[derive(Debug, Default)]
pub(super) struct Params(Map<String, Value>);

impl Params {
    pub(super) fn from_query(query: &str) -> Self {
        let mut params = Self::default();
        params.add_pairs(query.as_bytes());
        params
    }

    fn add_pairs(&mut self, encoded: &[u8]) {
        for (name, value) in url::form_urlencoded::parse(encoded) {
            let value = Value::from(value.into_owned());
            match name.strip_suffix("[]") {
                None => drop(self.0.insert(name.into_owned(), value)),
                Some(name) => match self.0.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                    Value::Array(items) => items.push(value),
                    other => *other = Value::Array(vec![value]),
                },
            }
        }
    }

    /// Whether the parameter was sent at all, be it empty or null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<String, Refusal> {
        self.text(name).ok_or_else(|| Refusal::missing(name))
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.text(name)?.as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        }
    }

    pub(super) fn list(&self, name: &str) -> Option<Vec<String>> {
        let split = |text: &str| {
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        match self.0.get(name)? {
            Value::Array(items) => Some(
                items
                    .iter()
                    .filter_map(|item| item.as_str().map(str::to_owned).or_else(|| Some(item.to_string())))
                    .collect(),
            ),
            Value::String(text) => Some(split(text)),
            Value::Number(number) => Some(vec![number.to_string()]),
            Value::Null => Some(Vec::new()),
            _ => None,
        }
    }

    pub(super) fn moment(&self, name: &str) -> Option<jiff::Timestamp> {
        self.text(name)?.parse().ok()
    }

    /// A structured parameter (JSON bodies only).
    pub(super) fn structured<T: DeserializeOwned>(&self, name: &str) -> Result<T, Refusal> {
        let value = self.0.get(name).ok_or_else(|| Refusal::missing(name))?;
        serde_json::from_value(value.clone())
            .map_err(|error| Refusal::invalid(&format!("{name} is invalid: {error}")))
    }
}

impl FromRequest for Params {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let query = request.query_string().to_owned();
        let form = request
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form"));
        let body = Bytes::from_request(request, payload);
        Box::pin(async move {
            let body = body.await?;
            let mut params = Self::from_query(&query);
            if form {
                params.add_pairs(&body);
            } else if !body.iter().all(u8::is_ascii_whitespace) {
                let Ok(Value::Object(object)) = serde_json::from_slice(&body) else {
                    return Err(
                        Refusal::bad_request("400 Bad request - the body is not a JSON object").into()
                    );
                };
                params.0.extend(object);
            }
            Ok(params)
        })
    }
}
