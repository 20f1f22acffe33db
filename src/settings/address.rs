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

/// An address below another one, whether that ends in a slash or not.
pub(super) fn below(url: &Url, path: &str) -> Option<Url> {
    let mut base = url.clone();
    base.path_segments_mut().ok()?.pop_if_empty().push("");
    base.join(path).ok()
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

/// Which of these addresses would be answered as that of a preview, and not by greenroom's own routes.
pub(super) fn among_previews(domain: &str, urls: &[(&str, &Url)]) -> Option<String> {
    let is_below =
        |host: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let (name, host) =
        urls.iter().find_map(|(name, url)| Some((name, url.host_str().filter(|host| is_below(host))?)))?;
    Some(format!(
        "{name} leads to {host}, which is among the previews (GREENROOM_PREVIEW_DOMAIN is {domain}): neither webhooks nor \
         the API are answered there; give previews a domain that holds nothing else"
    ))
}
