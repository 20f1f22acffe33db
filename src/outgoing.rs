//! How this program reaches others over HTTP: whose certificates it trusts, and when it goes through a proxy.
//!
//! Properties:
//! * Roots of the operator's are added to the usual ones, never put in their place.
//! * `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` count, in capitals or not, as the HTTP library reads them. This machine's own
//!   loopback is always reached directly: no proxy elsewhere could.
//! * `localhost` and every name below it are this machine, as RFC 6761 has it, whatever the system's resolver says.

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, ClientBuilder};
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

/// Certificates of authorities that are trusted besides the usual ones.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    own: Vec<Certificate>,
    /// The same, in DER.
    der: Vec<Vec<u8>>,
}

impl Roots {
    /// Reads a PEM file of one or more certificates. The error says what is wrong with it, after its name.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let roots = Certificate::from_pem_bundle(pem).map_err(|error| format!("is no PEM file ({error})"))?;
        if roots.is_empty() {
            return Err(String::from("holds no certificate"));
        }
        // What is inside the PEM is only read when a client is made of it.
        match Client::builder().tls_certs_only(roots.clone()).build() {
            Ok(_) => {
                let der = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
                Ok(Self { own: roots, der: der.map(|certificate| certificate.to_vec()).collect() })
            }
            Err(_) => Err(String::from("holds a certificate that cannot be read")),
        }
    }

    /// Those and the system's, in DER, for a library that takes either the system's or a list; `None` where there are only
    /// the system's.
    pub fn with_the_systems(&self) -> Option<Vec<Vec<u8>>> {
        if self.der.is_empty() {
            return None;
        }
        let system = rustls_native_certs::load_native_certs().certs.into_iter().map(|it| it.to_vec());
        Some(self.der.iter().cloned().chain(system).collect())
    }
}

/// Makes connections: directly to this machine, else through the proxy if there is one.
#[derive(Debug)]
pub struct Outgoing {
    elsewhere: Client,
    here: Client,
}

impl Outgoing {
    /// Two clients that trust `roots` too, with the limits that `limit` sets.
    pub fn new(roots: &Roots, limit: impl Fn(ClientBuilder) -> ClientBuilder) -> reqwest::Result<Self> {
        let trusting = || limit(Client::builder()).tls_certs_merge(roots.own.iter().cloned());
        let here = trusting().no_proxy().dns_resolver(Arc::new(Localhost));
        Ok(Self { elsewhere: trusting().build()?, here: here.build()? })
    }

    /// The client for requests to this URL.
    pub fn to(&self, url: &Url) -> &Client {
        if is_loopback(url) { &self.here } else { &self.elsewhere }
    }
}

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => is_localhost(name),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// Knows this machine's names; asks the system for all others, where a redirect may lead.
struct Localhost;

impl Resolve for Localhost {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The port is the URL's.
            let addresses: Addrs = if is_localhost(name.as_str()) {
                let here = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), (Ipv6Addr::LOCALHOST, 0).into()];
                Box::new(here.into_iter())
            } else {
                let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
                Box::new(found.into_iter())
            };
            Ok(addresses)
        })
    }
}

/// Why the other side's certificate was refused, with what to do; `None` when that is not what went wrong.
pub fn certificate_refused(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(told(why));
        }
        // An I/O error names the source of what it wraps, but not what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn told(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => String::from(
            "its certificate is not trusted, for an unknown authority issued it; if that is your own, give its \
             certificate as a PEM file with GREENROOM_CA_FILE",
        ),
        other => format!("its certificate is not valid: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_from_others_by_name_and_address() {
        for (url, here) in [
            ("http://localhost:8080", true),
            ("https://gitlab.localhost", true),
            ("http://127.0.0.9", true),
            ("http://[::1]:1", true),
            ("https://localhost.example.com", false),
            ("http://10.0.0.1", false),
            ("https://gitlab.example.com", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), here, "{url}");
        }
    }

    #[test]
    fn a_file_without_a_readable_certificate_is_refused() {
        let no_certificate = "-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
        for (pem, why) in [
            ("", "holds no certificate"),
            ("# my authority\n", "holds no certificate"),
            (no_certificate, "holds a certificate that cannot be read"),
            ("-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n", "is no PEM file"),
        ] {
            let refused = Roots::from_pem(pem.as_bytes()).unwrap_err();
            assert!(refused.starts_with(why), "{pem:?}: {refused}");
        }
    }
}
