//! Addresses that people reach us at, or we reach GitLab at.

use url::Url;

pub(super) fn web_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("is no URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(String::from("is no web address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(String::from("contains credentials, which do not belong there"));
    }
    Ok(url)
}

pub(super) fn gitlab_base(text: &str) -> Result<Url, String> {
    let url = web_url(text)?;
    if url.path().contains("/api/v") {
        return Err(String::from("is the API's URL; the base URL ends before `/api`"));
    }
    Ok(url)
}

pub(super) fn domain(text: &str) -> Result<String, String> {
    let lower = text.trim_end_matches('.').to_ascii_lowercase();
    let labels = lower.split('.').all(crate::preview::valid_dns_label);
    // A preview's name takes up to 63 characters and a dot of the 253 that DNS allows.
    if labels && lower.len() <= 189 { Ok(lower) } else { Err(String::from("is no host name")) }
}
