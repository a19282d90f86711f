//! What senders are told: the answers and errors of OTLP, over gRPC and HTTP (opentelemetry.io, "OTLP
//! Specification": full success, partial success, failures).

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use prost::Message;
use tonic::{Code, Status};
use weir_model::limits;
use weir_storage::WriteError;

use crate::decode::{DecodeError, Rejected, Signal};

/// Why nothing of a request was taken.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refusal {
    /// The sender's mistake; sending it again will not help.
    #[error("{0}")]
    Malformed(String),
    /// Above [`limits::OTLP_REQUEST_BYTES`], before or after decompression.
    #[error("request is larger than {} MiB", limits::OTLP_REQUEST_BYTES >> 20)]
    TooLarge,
    /// An encoding or content type that is not understood.
    #[error("{0}")]
    Unsupported(String),
    /// The body did not arrive in time.
    #[error("request did not arrive within {} s", limits::INGEST_READ.as_secs())]
    TooSlow,
    /// Too many bytes are on their way already.
    #[error("too much telemetry is being taken in at once, try again in {} s", retry_after.as_secs())]
    Overloaded {
        /// When.
        retry_after: Duration,
    },
    /// Storage cannot take it now.
    #[error("{reason}")]
    Unavailable {
        /// Why.
        reason: String,
        /// When to try again, where that may help.
        retry_after: Option<Duration>,
    },
    /// A fault of this program.
    #[error("{0}")]
    Internal(String),
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed(malformed) => Self::Malformed(malformed.to_string()),
            DecodeError::Columns(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        let retry_after = match &error {
            WriteError::Overloaded { retry_after } | WriteError::DiskFull { retry_after } => {
                Some((*retry_after).max(limits::INGEST_RETRY_AFTER))
            }
            WriteError::Stopped(_) => None,
            WriteError::Refused(_) => return Self::Internal(error.to_string()),
        };
        Self::Unavailable { reason: error.to_string(), retry_after }
    }
}

impl Refusal {
    /// Every [`Self::name`].
    pub(crate) const NAMES: [&str; 7] =
        ["malformed", "too_large", "unsupported", "too_slow", "overloaded", "unavailable", "internal"];

    /// Its name in metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge => "too_large",
            Self::Unsupported(_) => "unsupported",
            Self::TooSlow => "too_slow",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable { .. } => "unavailable",
            Self::Internal(_) => "internal",
        }
    }

    /// The gRPC code. What must not be sent again has a code that clients do not retry.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::InvalidArgument,
            Self::TooLarge => Code::ResourceExhausted,
            Self::Unsupported(_) => Code::Unimplemented,
            Self::TooSlow => Code::DeadlineExceeded,
            Self::Overloaded { .. } | Self::Unavailable { .. } => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// The HTTP status.
    pub(crate) fn http_status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// When to try again, where that may help.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after } => Some(*retry_after),
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// As gRPC carries it: with `RetryInfo`, without which clients may drop what they could send again.
    pub(crate) fn to_grpc(&self) -> Status {
        Status::with_details(self.code(), self.to_string(), self.to_protobuf())
    }

    /// As a `google.rpc.Status` message.
    pub(crate) fn to_protobuf(&self) -> Bytes {
        let details = self.retry_after().map(|delay| rpc::Any {
            type_url: RETRY_INFO.to_owned(),
            value: rpc::RetryInfo { retry_delay: Some(rpc::Duration::from(delay)) }.encode_to_vec(),
        });
        let status = rpc::Status {
            code: self.code() as i32,
            message: self.to_string(),
            details: details.into_iter().collect(),
        };
        status.encode_to_vec().into()
    }

    /// As the JSON form of a `google.rpc.Status` message.
    pub(crate) fn to_json(&self) -> Bytes {
        let mut status = serde_json::json!({ "code": self.code() as i32, "message": self.to_string() });
        if let Some(delay) = self.retry_after() {
            let delay = format!("{}.{:03}s", delay.as_secs(), delay.subsec_millis());
            status["details"] = serde_json::json!([{ "@type": RETRY_INFO, "retryDelay": delay }]);
        }
        status.to_string().into()
    }
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// The `Export…ServiceResponse` message of any signal: they differ in nothing but names.
pub(crate) fn response_protobuf(rejected: &Rejected) -> Bytes {
    let partial_success = (rejected.total() > 0).then(|| rpc::PartialSuccess {
        rejected: i64::try_from(rejected.total()).unwrap_or(i64::MAX),
        error_message: rejected.message(),
    });
    rpc::ExportResponse { partial_success }.encode_to_vec().into()
}

/// The JSON form of [`response_protobuf`].
pub(crate) fn response_json(signal: Signal, rejected: &Rejected) -> Bytes {
    if rejected.total() == 0 {
        return Bytes::from_static(b"{}");
    }
    let field = match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
    };
    let partial =
        serde_json::json!({ field: rejected.total().to_string(), "errorMessage": rejected.message() });
    serde_json::json!({ "partialSuccess": partial }).to_string().into()
}

/// The few messages of `google.rpc` and OTLP that answers are made of.
mod rpc {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(int32, tag = "1")]
        pub(super) code: i32,
        #[prost(string, tag = "2")]
        pub(super) message: String,
        #[prost(message, repeated, tag = "3")]
        pub(super) details: Vec<Any>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Any {
        #[prost(string, tag = "1")]
        pub(super) type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        pub(super) retry_delay: Option<Duration>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Duration {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(super) nanos: i32,
    }

    impl From<std::time::Duration> for Duration {
        fn from(duration: std::time::Duration) -> Self {
            Self { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ExportResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) partial_success: Option<PartialSuccess>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PartialSuccess {
        #[prost(int64, tag = "1")]
        pub(super) rejected: i64,
        #[prost(string, tag = "2")]
        pub(super) error_message: String,
    }
}
