//! Compiles `proto/ratatoskr.proto`: messages and client once, then the server's trait over the same messages.

use std::path::PathBuf;
use std::{env, error, fs};

use prost::Message as _;

fn main() -> Result<(), Box<dyn error::Error>> {
    let proto_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let proto_file = proto_dir.join("ratatoskr.proto");
    println!("cargo::rerun-if-changed={}", proto_file.display());

    let descriptors = protox::compile([&proto_file], [&proto_dir])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;

    let client_dir = out_dir.join("client");
    fs::create_dir_all(&client_dir)?;
    tonic_prost_build::configure()
        .out_dir(&client_dir)
        .build_server(false)
        .bytes(".")
        .btree_map(".")
        .compile_fds(descriptors.clone())?;

    // The server sends types of its own where the contract says `Message`, or what carries messages to members, and otherwise
    // shares every type with the client.
    let server_dir = out_dir.join("server");
    fs::create_dir_all(&server_dir)?;
    tonic_prost_build::configure()
        .out_dir(&server_dir)
        .build_client(false)
        .extern_path(".ratatoskr", "crate")
        .extern_path(".ratatoskr.Message", "crate::OutgoingMessage")
        .extern_path(".ratatoskr.ConsumeResponse", "crate::OutgoingStep")
        .extern_path(".ratatoskr.PullResponse", "crate::OutgoingMessages")
        .codec_path("crate::StrictCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
