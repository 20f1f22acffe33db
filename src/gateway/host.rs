//! Host name → preview. Pure.

use crate::preview::PreviewName;

/// The domain that previews live below.
#[derive(Debug, Clone)]
pub(super) struct Domain(String);

/// Where a host lies in the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// One label below: a preview's own host.
    Preview(PreviewName),
    /// The domain itself, or deeper than one label: nobody's.
    Nobody,
}

impl Domain {
    pub(super) fn new(domain: &str) -> Self {
        Self(plain(domain))
    }

    /// Where `host`, the value of a `Host` header, lies; `None` when it is outside of the domain.
    pub(super) fn place(&self, host: &str) -> Option<Place> {
        let host = plain(host);
        let below = host.strip_suffix(&self.0)?;
        if below.is_empty() {
            return Some(Place::Nobody);
        }
        let label = below.strip_suffix('.')?;
        Some(PreviewName::parse(label).map_or(Place::Nobody, Place::Preview))
    }
}

/// A host without port and final dot, in lower case.
fn plain(host: &str) -> String {
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => host,
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_below_the_domain_is_a_preview() {
        let domain = Domain::new("Preview.example.com:8080");
        let web = || Some(Place::Preview(PreviewName::parse("web-42-mr-7").unwrap()));
        for (host, place) in [
            ("web-42-mr-7.preview.example.com", web()),
            ("WEB-42-mr-7.Preview.Example.COM:443", web()),
            ("web-42-mr-7.preview.example.com.", web()),
            ("web-42-mr-7.preview.example.com.:8080", web()),
            ("preview.example.com", Some(Place::Nobody)),
            ("preview.example.com.:", Some(Place::Nobody)),
            ("a.b.preview.example.com", Some(Place::Nobody)),
            (".preview.example.com", Some(Place::Nobody)),
            ("-.preview.example.com", Some(Place::Nobody)),
            ("..preview.example.com", Some(Place::Nobody)),
            ("evilpreview.example.com", None),
            ("preview.example.com.evil.org", None),
            ("web-42-mr-7.preview.example.com@evil.org", None),
            ("example.com", None),
            ("[::1]:8080", None),
            ("127.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(domain.place(host), place, "{host}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_found_at_its_own_host_only(label in "[a-z0-9.-]{0,20}") {
            if let Some(Place::Preview(name)) = Domain::new("p.test").place(&format!("{label}.p.test")) {
                prop_assert_eq!(name.as_str(), label);
            }
        }
    }
}
