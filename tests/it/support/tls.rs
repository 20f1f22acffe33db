//! What stands between a company's servers: a certificate authority of its own, TLS in front of a server, a proxy.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use url::Url;

/// An authority that no system knows.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Its own certificate, as people hand it round.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// A certificate for these names and addresses, and its key, both as PEM.
    pub fn certify(&self, hosts: &[&str]) -> (String, String) {
        let (leaf, key) = self.sign(hosts);
        (pem("CERTIFICATE", leaf.der()), private_key(&key))
    }

    fn sign(&self, hosts: &[&str]) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<_> = hosts.iter().copied().map(str::to_owned).collect();
        (CertificateParams::new(hosts).unwrap().signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Proves to be `host`.
    fn acceptor(&self, host: &str) -> TlsAcceptor {
        let (leaf, key) = self.sign(&[host]);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A new private key and its public one, both as PEM.
pub fn key_pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (private_key(&key), pem("PUBLIC KEY", &key.subject_public_key_info()))
}

fn private_key(key: &KeyPair) -> String {
    pem("PRIVATE KEY", &key.serialize_der())
}

fn pem(label: &str, der: &[u8]) -> String {
    let lines: Vec<_> = BASE64_STANDARD.encode(der).into_bytes().chunks(64).map(<[u8]>::to_vec).collect();
    let body = String::from_utf8(lines.join(&b'\n')).unwrap();
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// TLS in front of a server that speaks none.
pub struct TlsFront {
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl TlsFront {
    /// As `host`, with a certificate of this authority.
    pub async fn before(server: &Url, authority: &Authority, host: &str) -> Self {
        let acceptor = authority.acceptor(host);
        let server = server.socket_addrs(|| None).unwrap()[0];
        let (address, accepting) = serve(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut server = TcpStream::connect(server).await?;
                copy_bidirectional(&mut stream, &mut server).await.map(drop)
            }
        })
        .await;
        Self { address, accepting }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An HTTP proxy (`CONNECT`) that finds every name at one address.
pub struct Proxy {
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (address, accepting) = serve({
            let asked = asked.clone();
            move |stream| connect(stream, target, asked.clone())
        })
        .await;
        Self { url: format!("http://{address}"), asked, accepting }
    }

    /// The name and port of every tunnel so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connect(
    stream: TcpStream,
    target: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if stream.read_line(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let name = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).map(str::to_owned);
    asked.lock().unwrap().push(name.unwrap_or_else(|| format!("not a tunnel: {request}")));
    let mut target = TcpStream::connect(target).await?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut target).await.map(drop)
}

/// Handles connections on a free port until the task is aborted.
async fn serve<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(handle(stream));
            while connections.try_join_next().is_some() {}
        }
    });
    (address, accepting)
}
