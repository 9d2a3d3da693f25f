use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use keelstone_env::{ClientTls, Env, ServerTls};
use keelstone_store_server::{
    flags::{self, Command, FlagsError, LogSettings, Settings, TlsFiles},
    PeerTls, StoreServer,
};
use tracing_subscriber::{fmt::writer::BoxMakeWriter, EnvFilter};

use super::{notify, zap::ZapLines};
use crate::{
    commands::{asked_to_stop, read, stop_within, store::open_engine, store_ended},
    Failure,
};

/// etcd's exit code for a command line that cannot be read, and for everything else that fails.
const EXIT_USAGE: u8 = 2;
const EXIT_FAILED: u8 = 1;

/// Runs a member with etcd's flags until it is asked to stop.
pub fn run(arguments: &[String]) -> ExitCode {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let settings = match flags::parse(arguments, &variables.collect(), |path| std::fs::read_to_string(path)) {
        Ok(Command::Help) => {
            print!("{}", flags::help());
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            print!("{}", flags::version());
            return ExitCode::SUCCESS;
        }
        Ok(Command::Run(settings)) => *settings,
        Err(FlagsError::Usage(text)) => {
            eprint!("{text}\n{}", flags::help());
            return ExitCode::from(EXIT_USAGE);
        }
        Err(FlagsError::Refused(text)) => {
            log_to(&LogSettings { level: "info", outputs: vec!["default".into()], json: true }).unwrap_or_default();
            tracing::error!(error = %text, "failed to verify flags");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    if let Err(error) = log_to(&settings.log) {
        eprintln!("etcd: the log cannot be written: {error}");
        return ExitCode::from(EXIT_FAILED);
    }
    match crate::serve(serve(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(error) | Failure::Failed(error)) => {
            tracing::error!(error = %error, "failed to start etcd");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    for note in &settings.notes {
        tracing::warn!("{note}");
    }
    let data_dir = &settings.store.data_dir;
    if data_dir.join("member").join("wal").exists() {
        let text = format!("{} holds data of etcd itself; it can come here by a snapshot alone", data_dir.display());
        return Err(Failure::Failed(text));
    }
    let engine = open_engine(data_dir)?;
    let mut config = settings.store;
    config.client_tls = server_tls(&settings.client_tls)?;
    config.peer_tls = peer_tls(&settings.peer_tls)?;
    config.client_tls_files = Some(followed(&settings.client_tls));
    config.peer_tls_files = Some(followed(&settings.peer_tls));
    let store = StoreServer::start(Env::os(), config, engine).await?;
    let stop = asked_to_stop();
    tokio::pin!(stop);
    let served = async {
        store.wait_for_leader().await;
        tracing::info!(address = store.client_address(), "ready to serve client requests");
        if let Err(error) = notify::ready() {
            tracing::error!(%error, "failed to notify systemd for readiness");
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        biased;
        stopped = &mut stop => stopped,
        ended = store_ended(&store) => ended,
        () = served => Ok(()),
    };
    stop_within(store.shutdown()).await;
    ended
}

fn server_tls(files: &TlsFiles) -> Result<Option<ServerTls>, Failure> {
    let Some((certificate, key)) = &files.identity else { return Ok(None) };
    Ok(Some(ServerTls {
        certificate: read(certificate)?,
        key: read(key)?,
        client_ca: files.trusted_ca.as_deref().map(read).transpose()?,
        client_certificate_required: files.certificate_required,
        alpn: Vec::new(),
    }))
}

/// The files that are read again when they change.
fn followed(files: &TlsFiles) -> keelstone_env::TlsFiles {
    let (certificate, key) = files.identity.clone().unzip();
    keelstone_env::TlsFiles { certificate, key, ca: files.trusted_ca.clone() }
}

fn peer_tls(files: &TlsFiles) -> Result<Option<PeerTls>, Failure> {
    let Some(server) = server_tls(files)? else { return Ok(None) };
    let Some(ca) = server.client_ca.clone() else {
        return Err(Failure::Usage("--peer-cert-file needs --peer-trusted-ca-file".into()));
    };
    let client = ClientTls { ca, identity: Some((server.certificate.clone(), server.key.clone())), alpn: Vec::new() };
    Ok(Some(PeerTls { server, client }))
}

fn log_to(log: &LogSettings) -> io::Result<()> {
    let filter = EnvFilter::try_from_env("KEELSTONE_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{},openraft=off", log.level)));
    let writers = log.outputs.iter().map(|output| writer(output)).collect::<io::Result<Vec<_>>>()?;
    let writers = Arc::new(Mutex::new(Outputs(writers)));
    let writer = BoxMakeWriter::new(move || SharedOutputs(Arc::clone(&writers)));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer);
    match log.json {
        true => builder.event_format(ZapLines).init(),
        false => builder.init(),
    }
    Ok(())
}

fn writer(output: &str) -> io::Result<Box<dyn Write + Send>> {
    Ok(match output {
        "default" | "stderr" => Box::new(io::stderr()),
        "stdout" => Box::new(io::stdout()),
        path => Box::new(File::options().create(true).append(true).open(Path::new(path))?),
    })
}

/// Every line goes to all of them.
struct Outputs(Vec<Box<dyn Write + Send>>);

struct SharedOutputs(Arc<Mutex<Outputs>>);

impl Write for SharedOutputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut outputs = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        outputs.0.iter_mut().try_for_each(|output| output.write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut outputs = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        outputs.0.iter_mut().try_for_each(Write::flush)
    }
}
