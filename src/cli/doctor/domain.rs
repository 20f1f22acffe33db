//! The domain of the previews: every name below it has to lead here, with a certificate.

use std::time::Duration;

use super::Check;
use crate::outgoing::{Outgoing, certificate_refused};
use crate::settings::Settings;

/// The longest a visit may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn checks(settings: &Settings) -> Vec<Check> {
    let domain = &settings.preview_domain;
    if domain == "localhost" || domain.ends_with(".localhost") {
        let own = format!("*.{domain} is this machine, for its own browsers only");
        return vec![Check::skipped("dns", own)];
    }
    // A name that nobody can have written into DNS by hand.
    let host = format!("{}.{domain}", uuid::Uuid::new_v4().simple());
    let mut url = settings.public_url.clone();
    if url.set_host(Some(&host)).is_err() {
        return Vec::new();
    }
    url.set_path("/");
    let port = url.port_or_known_default().unwrap_or_default();
    let known = tokio::net::lookup_host((host.as_str(), port)).await;
    if known.map_or(0, Iterator::count) == 0 {
        return vec![Check::wrong(
            "dns",
            format!("names below {domain} are not known to DNS, such as {host}"),
            format!("add a wildcard record, `*.{domain}`, that leads to greenroom or to the proxy before it"),
        )];
    }
    vec![Check::ok("dns", format!("*.{domain} is known to DNS")), visit(settings, &url).await]
}

async fn visit(settings: &Settings, url: &url::Url) -> Check {
    let domain = &settings.preview_domain;
    let http = Outgoing::new(&settings.roots, |http| {
        http.timeout(PATIENCE).redirect(reqwest::redirect::Policy::none())
    });
    let http = match http {
        Ok(http) => http,
        Err(error) => return Check::skipped("previews", error.to_string()),
    };
    match http.to(url).get(url.clone()).send().await {
        Ok(_) => Check::ok("previews", format!("{}://*.{domain} is answered", url.scheme())),
        Err(error) => match certificate_refused(&error) {
            Some(why) => Check::wrong(
                "previews",
                format!("{}: {why}", url.origin().ascii_serialization()),
                format!("give the proxy before greenroom a certificate for `*.{domain}`"),
            ),
            None => Check::wrong(
                "previews",
                format!("{} is not reached: {}", url.origin().ascii_serialization(), error.without_url()),
                "see whether the proxy before greenroom runs, and whether it can be reached from here",
            ),
        },
    }
}
