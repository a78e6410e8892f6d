//! [`StrictCodec`]: protobuf on gRPC, with a client's malformed bytes told as the client's fault.
//!
//! The usual codec answers bytes that are no protobuf with `INTERNAL`, which reads like a fault of the
//! broker and makes clients retry. Here they are `INVALID_ARGUMENT`, with what was wrong and where.

use std::fmt::Display;
use std::marker::PhantomData;

use bytes::{Buf as _, Bytes};
use prost::{Message, Name};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

use crate::shape::{Refusal, Values};

/// Encodes `T`, decodes `U`.
#[derive(Debug)]
pub struct StrictCodec<T, U> {
    // Which types it stands between; holds nothing.
    types: PhantomData<fn(T) -> U>,
}

impl<T, U> Default for StrictCodec<T, U> {
    fn default() -> StrictCodec<T, U> {
        StrictCodec { types: PhantomData }
    }
}

impl<T, U> Codec for StrictCodec<T, U>
where
    T: Message + 'static,
    U: Name + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = StrictEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> StrictEncoder<T> {
        StrictEncoder(PhantomData)
    }

    fn decoder(&mut self) -> StrictDecoder<U> {
        StrictDecoder(PhantomData)
    }
}

/// The encoding half of [`StrictCodec`].
#[derive(Debug)]
pub struct StrictEncoder<T>(PhantomData<fn(T)>);

impl<T: Message> Encoder for StrictEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).expect("the buffer grows as needed");
        Ok(())
    }
}

/// The decoding half of [`StrictCodec`].
#[derive(Debug)]
pub struct StrictDecoder<U>(PhantomData<fn() -> U>);

impl<U: Name + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        decode_counted(buffer.copy_to_bytes(buffer.remaining())).map(Some)
    }
}

/// Decodes a request after its values have been counted: a request that has more of them than any call takes is refused before they
/// are made.
pub fn decode_counted<U: Name + Default>(request: Bytes) -> Result<U, Status> {
    if request.len() > HARMLESS_BYTES {
        Values::check(&request, U::NAME, VALUES_MAX).map_err(|refusal| match refusal {
            Refusal::Entries { .. } => Status::new(Code::InvalidArgument, refusal.to_string()),
            Refusal::NoMessage | Refusal::Values { .. } => not_followed(&refusal),
        })?;
    }
    U::decode(request).map_err(|error| malformed(&error))
}

/// A request of so many bytes cannot become much.
const HARMLESS_BYTES: usize = 64 << 10;
/// What the largest request that is allowed has: 10,000 messages, each with everything and 64 metadata entries, and 10,000 settlements; or
/// 100,000 settlements. Each value may take two bytes as it comes and a hundred as it is kept, so they are counted before they are made.
const VALUES_MAX: Values = Values { outer: 110_000, inner: 800_000 };

/// The answer to bytes that are no request.
pub fn malformed(error: &prost::DecodeError) -> Status {
    not_followed(error)
}

fn not_followed(why: &dyn Display) -> Status {
    let text = format!("request does not follow the contract: {why}; see ratatoskr.proto");
    Status::new(Code::InvalidArgument, text)
}
