//! TLS whose PEM files may be replaced while it runs: handshakes use what the files hold by then.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{BoxedIo, ClientTls, Disk, Env, ServerTls, TlsAcceptor, TlsConnector, TlsStream};

/// A handshake looks at the files at most so often.
pub const TLS_FILES_INTERVAL: Duration = Duration::from_secs(1);

/// The files of one side. Whatever is not named stays as it was configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The authorities that the other side's certificate is checked against.
    pub ca: Option<PathBuf>,
}

/// What the files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Texts {
    certificate: Option<String>,
    key: Option<String>,
    ca: Option<String>,
}

impl TlsFiles {
    fn read(&self, disk: &dyn Disk) -> io::Result<Texts> {
        let text = |path: &Option<PathBuf>| {
            let Some(path) = path else { return Ok(None) };
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            let content = disk.read(path).map_err(named)?;
            String::from_utf8(content).map(Some).map_err(|_| named(io::ErrorKind::InvalidData.into()))
        };
        Ok(Texts { certificate: text(&self.certificate)?, key: text(&self.key)?, ca: text(&self.ca)? })
    }
}

/// A server's side with the files' content in place of `base`'s (all of it without files). A changed file takes effect for handshakes from
/// then on; connections that exist go on. While the files cannot be used (one of two is replaced, say), what
/// was used before stays in use and the log says so.
///
/// # Errors
/// If the files cannot be used now.
pub fn following_acceptor(env: &Env, base: &ServerTls, files: Option<&TlsFiles>) -> io::Result<Arc<dyn TlsAcceptor>> {
    let Some(files) = files else { return env.tls().server(base) };
    let (tls, base) = (Arc::clone(env.tls()), base.clone());
    let build = move |texts: &Texts| {
        tls.server(&ServerTls {
            certificate: texts.certificate.clone().unwrap_or_else(|| base.certificate.clone()),
            key: texts.key.clone().unwrap_or_else(|| base.key.clone()),
            client_ca: texts.ca.clone().or_else(|| base.client_ca.clone()),
            ..base.clone()
        })
    };
    Ok(Arc::new(Following::new(env, files, build)?))
}

/// As [`following_acceptor`], for a client's side.
pub fn following_connector(env: &Env, base: &ClientTls, files: Option<&TlsFiles>) -> io::Result<Arc<dyn TlsConnector>> {
    let Some(files) = files else { return env.tls().client(base) };
    let (tls, base) = (Arc::clone(env.tls()), base.clone());
    let build = move |texts: &Texts| {
        let of_files = texts.certificate.clone().zip(texts.key.clone());
        tls.client(&ClientTls {
            ca: texts.ca.clone().unwrap_or_else(|| base.ca.clone()),
            identity: of_files.or_else(|| base.identity.clone()),
            ..base.clone()
        })
    };
    Ok(Arc::new(Following::new(env, files, build)?))
}

type Build<T> = Box<dyn Fn(&Texts) -> io::Result<Arc<T>> + Send + Sync>;

struct Following<T: ?Sized> {
    env: Env,
    files: TlsFiles,
    build: Build<T>,
    state: Mutex<State<T>>,
}

struct State<T: ?Sized> {
    current: Arc<T>,
    /// What the files held when they were last read, usable or not.
    texts: Texts,
    looked: Instant,
}

impl<T: ?Sized + Send + Sync + 'static> Following<T> {
    fn new(
        env: &Env,
        files: &TlsFiles,
        build: impl Fn(&Texts) -> io::Result<Arc<T>> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let texts = files.read(&**env.disk())?;
        let state = State { current: build(&texts)?, texts, looked: env.now() };
        Ok(Self { env: env.clone(), files: files.clone(), build: Box::new(build), state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn current(&self) -> Arc<T> {
        let now = self.env.now();
        {
            let mut state = self.state();
            if now.saturating_duration_since(state.looked) < TLS_FILES_INTERVAL {
                return Arc::clone(&state.current);
            }
            state.looked = now;
        }
        let (disk, files) = (Arc::clone(self.env.disk()), self.files.clone());
        let read = self.env.offload(move || files.read(&*disk)).await;
        let mut state = self.state();
        match read {
            Ok(texts) if texts == state.texts => {}
            Ok(texts) => {
                match (self.build)(&texts) {
                    Ok(renewed) => {
                        tracing::info!(files = ?self.files, "certificates were renewed");
                        state.current = renewed;
                    }
                    Err(error) => {
                        tracing::warn!(files = ?self.files, %error, "changed certificates cannot be used yet");
                    }
                }
                state.texts = texts;
            }
            Err(error) => tracing::warn!(%error, "certificates cannot be read; the old ones stay in use"),
        }
        Arc::clone(&state.current)
    }
}

#[async_trait]
impl TlsAcceptor for Following<dyn TlsAcceptor> {
    async fn accept(&self, io: BoxedIo) -> io::Result<TlsStream> {
        self.current().await.accept(io).await
    }
}

#[async_trait]
impl TlsConnector for Following<dyn TlsConnector> {
    async fn connect(&self, io: BoxedIo, server_name: &str) -> io::Result<TlsStream> {
        self.current().await.connect(io, server_name).await
    }
}
