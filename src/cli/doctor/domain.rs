//! The domain of the previews: every name below it has to lead to greenroom, with a certificate.

use std::time::Duration;

use url::Url;

use super::Check;
use crate::outgoing::{Outgoing, certificate_refused};
use crate::settings::Settings;

/// The longest a visit may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn checks(settings: &Settings) -> Vec<Check> {
    let domain = &settings.preview_domain;
    if domain == "localhost" || domain.ends_with(".localhost") {
        let own = format!("*.{domain} is each browser's own machine");
        return vec![Check::skipped("previews", own)];
    }
    // A name that nobody can have written into DNS by hand.
    let host = format!("{}.{domain}", uuid::Uuid::new_v4().simple());
    let mut url = settings.public_url.clone();
    if url.set_host(Some(&host)).is_err() {
        return Vec::new();
    }
    url.set_path("/");
    vec![visit(settings, &url, &host).await]
}

/// Through a proxy a name may be known though it is not here: DNS is asked for an explanation only.
async fn visit(settings: &Settings, url: &Url, host: &str) -> Check {
    let (domain, scheme) = (&settings.preview_domain, url.scheme());
    let http = Outgoing::new(&settings.roots, |http| {
        http.timeout(PATIENCE).redirect(reqwest::redirect::Policy::none())
    });
    let answer = match http {
        Ok(http) => http.to(url).get(url.clone()).send().await,
        Err(error) => return Check::skipped("previews", error.to_string()),
    };
    let Err(error) = answer else {
        return Check::ok("previews", format!("{scheme}://*.{domain} is answered"));
    };
    if let Some(why) = certificate_refused(&error) {
        return Check::wrong(
            "previews",
            format!("{scheme}://*.{domain} is not what it should be: {why}"),
            format!("give the proxy before greenroom a certificate for `*.{domain}`"),
        );
    }
    let port = url.port_or_known_default().unwrap_or_default();
    let known = tokio::net::lookup_host((host, port)).await.map_or(0, Iterator::count) > 0;
    if known {
        Check::wrong(
            "previews",
            format!("{scheme}://*.{domain} is not reached: {}", error.without_url()),
            "see whether the proxy before greenroom runs, and whether it can be reached from here",
        )
    } else {
        Check::wrong(
            "previews",
            format!("names below {domain} are not known to DNS"),
            format!("add a wildcard record, `*.{domain}`, that leads to greenroom or to the proxy before it"),
        )
    }
}
