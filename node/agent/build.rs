//! Compiles the runtime contract's `.proto` text without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["cri.proto"], ["proto"])?;
    let mut config = tonic_prost_build::Config::new();
    config.btree_map(["."]);
    tonic_prost_build::configure().build_client(true).build_server(false).compile_fds_with_config(files, config)?;
    Ok(())
}
