//! What calls without credentials are refused with.

use tonic::{Code, Status};

use super::Failure;
use crate::limits::{
    MEMORY_RETRY, UNAUTHENTICATED_CALLS_MAX, UNAUTHENTICATED_REQUEST_BYTES_MAX,
    UNAUTHENTICATED_REQUEST_TIMEOUT,
};

/// A call without credentials whose request is longer than any probe's.
pub(crate) fn long_probe() -> Status {
    let message = format!(
        "the request has more than {UNAUTHENTICATED_REQUEST_BYTES_MAX} bytes; no more are taken without credentials: send `authorization: Bearer TOKEN`"
    );
    Failure::new(Code::ResourceExhausted, "UNAUTHENTICATED_REQUEST_TOO_LARGE").status(&message)
}

/// A call without credentials, beside as many as one connection may have.
pub(crate) fn too_many_probes() -> Status {
    let message = format!(
        "{UNAUTHENTICATED_CALLS_MAX} calls without credentials are open on this connection, as many as may be: end some, or send `authorization: Bearer TOKEN`"
    );
    let failure = Failure::new(Code::ResourceExhausted, "TOO_MANY_UNAUTHENTICATED_CALLS");
    failure.retry_after(MEMORY_RETRY).status(&message)
}

/// A call without credentials whose request did not come in time.
pub(crate) fn late_probe() -> Status {
    let seconds = UNAUTHENTICATED_REQUEST_TIMEOUT.as_secs();
    let message =
        format!("the request was not whole within {seconds} s, which is all it has without credentials");
    Failure::new(Code::DeadlineExceeded, "UNAUTHENTICATED_REQUEST_TOO_LATE").status(&message)
}
