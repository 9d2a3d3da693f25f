//! Compiles the contract's `.proto` text without protoc.
#![allow(clippy::disallowed_methods, reason = "a build script writes files")]

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["rpc.proto", "v3lock.proto", "v3election.proto", "health.proto"];
    let mut files = protox::compile(files, ["proto"])?;
    for file in &mut files.file {
        file.source_code_info = None;
    }
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]);
    tonic_prost_build::configure().build_client(true).build_server(true).compile_fds_with_config(files, config)?;
    Ok(())
}
