use std::{io, os::unix::net::UnixDatagram};

/// Tells the service manager that clients are served: etcd's unit files are of type `notify`.
///
/// # Errors
/// If there is a manager and it cannot be told.
pub fn ready() -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return Ok(()) };
    let socket = UnixDatagram::unbound()?;
    match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.send_to_addr(b"READY=1", &address)?;
        }
        None => drop(socket.send_to(b"READY=1", path)?),
    }
    Ok(())
}
