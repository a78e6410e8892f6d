//! Compiles `proto/ratatoskr.proto`: messages and client once, then the server's trait over the same messages.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, error, fs};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{FieldDescriptorProto, FileDescriptorSet};
use tonic_prost_build::Config;

fn main() -> Result<(), Box<dyn error::Error>> {
    let proto_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let proto_file = proto_dir.join("ratatoskr.proto");
    println!("cargo::rerun-if-changed={}", proto_file.display());

    let descriptors = protox::compile([&proto_file], [&proto_dir])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    fs::write(out_dir.join("shapes.rs"), shapes(&descriptors))?;

    let client_dir = out_dir.join("client");
    fs::create_dir_all(&client_dir)?;
    let mut named = Config::new();
    named.enable_type_names();
    tonic_prost_build::configure()
        .out_dir(&client_dir)
        .build_server(false)
        .bytes(".")
        .btree_map(".")
        .compile_fds_with_config(descriptors.clone(), named)?;

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
        .extern_path(".ratatoskr.PullResponse", "crate::OutgoingPull")
        .codec_path("crate::StrictCodec")
        .compile_fds(descriptors)?;
    Ok(())
}

/// The contract's messages, and which of their fields are messages, as a table for `src/shape.rs`. Entries of maps are left out: what is in
/// them cannot be many.
fn shapes(descriptors: &FileDescriptorSet) -> String {
    let messages: Vec<_> = descriptors
        .file
        .iter()
        .flat_map(|file| file.message_type.iter().map(|message| (file.package(), message)))
        .collect();
    let place = |field: &FieldDescriptorProto| {
        messages
            .iter()
            .position(|(package, message)| field.type_name() == format!(".{package}.{}", message.name()))
    };
    let mut table = "[\n".to_owned();
    for (_, message) in &messages {
        let mut inner = String::new();
        for field in message.field.iter().filter(|field| field.r#type() == Type::Message) {
            let Some(shape) = place(field) else { continue };
            let is_many = field.label() == Label::Repeated;
            write!(inner, "Inner {{ number: {}, shape: {shape}, is_many: {is_many} }}, ", field.number())
                .expect("a string grows");
        }
        writeln!(table, "    Shape {{ name: {:?}, inner: &[{inner}] }},", message.name())
            .expect("a string grows");
    }
    table + "]\n"
}
