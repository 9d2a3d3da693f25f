//! Compiles the members' protocol without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["peer.proto"], ["proto"])?;
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]);
    tonic_prost_build::configure().build_client(true).build_server(true).compile_fds_with_config(files, config)?;
    Ok(())
}
