//! Handshakes with real certificates, made for the test; and files that are none.

use rcgen::KeyPair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};

use super::*;

#[path = "../../tests/support/authority.rs"]
mod authority;

use authority::Authority;

fn files(authority: &Authority) -> TlsFiles {
    let authority::Files { cert, key } = authority.server_files();
    TlsFiles { cert, key, client_ca: Some(authority.ca_file()) }
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    roots
}

/// Connects to a door and back; answers what the server learns of the client, and the certificate the client was shown.
async fn shake(tls: &Tls, client: ClientConfig) -> io::Result<(Peer, CertificateDer<'static>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
        stream.write_all(b"hello").await?;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        // With TLS 1.3 the server's refusal of a client certificate comes after the handshake.
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(shown)
    };
    let accepting = async {
        let (stream, _) = listener.accept().await?;
        let (mut wire, peer) = accept(Some(tls), Door::Grpc, stream).await?;
        let mut text = [0; 5];
        wire.read_exact(&mut text).await?;
        assert_eq!(&text, b"hello");
        wire.write_all(b"ok").await?;
        wire.flush().await?;
        Ok::<_, io::Error>(peer)
    };
    let (shown, peer) = tokio::try_join!(connecting, accepting)?;
    Ok((peer, shown))
}

fn client(roots: RootCertStore, own: Option<(&rcgen::Certificate, &KeyPair)>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[tokio::test]
async fn a_client_certificate_tells_its_names_and_none_is_no_obstacle() {
    let authority = Authority::new();
    let tls = Tls::load(files(&authority)).unwrap();
    let (certificate, key) = authority.issue("billing", &["billing.internal", "spiffe://acme/billing"]);
    let (peer, _) = shake(&tls, client(roots(&authority), Some((&certificate, &key)))).await.unwrap();
    let certificate_of = peer.certificate.unwrap();
    assert_eq!(certificate_of.to_string(), "dns:billing.internal, uri:spiffe://acme/billing, cn:billing");
    let (_, parsed) = parse_x509_certificate(certificate.der()).unwrap();
    let last_s = u64::try_from(parsed.validity().not_after.timestamp()).unwrap();
    assert_eq!(certificate_of.until_s, last_s + 1);

    let (peer, _) = shake(&tls, client(roots(&authority), None)).await.unwrap();
    assert_eq!(peer.certificate, None);
    assert!(peer.address.ip().is_loopback());
}

#[tokio::test]
async fn a_certificate_of_a_ca_that_is_not_believed_ends_the_handshake() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = Tls::load(files(&authority)).unwrap();
    let (certificate, key) = other.issue("billing", &[]);
    let shaken = shake(&tls, client(roots(&authority), Some((&certificate, &key)))).await;
    assert_eq!(shaken.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_changed_certificate_is_shown_after_a_reload_and_a_half_changed_one_changes_nothing() {
    let authority = Authority::new();
    let tls = Tls::load(files(&authority)).unwrap();
    let shown = async || shake(&tls, client(roots(&authority), None)).await.unwrap().1;
    let first = shown().await;

    let (second, second_key) = authority.issue("broker", &["localhost"]);
    authority.write("server.pem", &second.pem());
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.ends_with("server.key: the key is not that of the certificate in tls_cert"), "{error}");
    assert_eq!(shown().await, first);

    authority.write("server.key", &second_key.serialize_pem());
    tls.reload().unwrap();
    assert_eq!(shown().await, *second.der());
    assert!(tls.not_after_s() > 1_700_000_000);
}

#[test]
fn files_that_are_none_are_told_by_setting_and_name() {
    let authority = Authority::new();
    let good = files(&authority);
    let empty = authority.write("empty.pem", "nothing here\n");
    let gone = empty.with_file_name("gone.pem");
    let folder = empty.parent().unwrap().display().to_string();
    for (files, says) in [
        (TlsFiles { cert: gone.clone(), ..good.clone() }, "tls_cert FOLDER/gone.pem cannot be read: "),
        (
            TlsFiles { cert: empty.clone(), ..good.clone() },
            "tls_cert FOLDER/empty.pem has no certificate in PEM",
        ),
        (
            TlsFiles { key: empty.clone(), ..good.clone() },
            "tls_key FOLDER/empty.pem has no private key in PEM",
        ),
        (
            TlsFiles { key: good.cert.clone(), ..good.clone() },
            "tls_key FOLDER/server.pem has no private key in",
        ),
        (
            TlsFiles { client_ca: Some(gone), ..good.clone() },
            "tls_client_ca FOLDER/gone.pem cannot be read: ",
        ),
        (TlsFiles { client_ca: Some(empty), ..good }, "tls_client_ca FOLDER/empty.pem has no certificate"),
    ] {
        let error = Tls::load(files).err().unwrap().to_string().replace(&folder, "FOLDER");
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn a_connection_without_tls_is_written_in_pieces_at_once() {
    // The new door relies on vectored writes where the socket has them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (wire, peer) = accept(None, Door::Grpc, accepted.unwrap().0).await.unwrap();
        assert!(wire.is_write_vectored());
        assert_eq!(peer.address, client.unwrap().local_addr().unwrap());
    });
}
