//! What the document says of remembered answers.
//!
//! Owns the description of the headers that [`recalled`](crate::http::recalled) reads and writes, on each operation that
//! asks a model.

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::{RefOr, Required, Schema};

const CONTROL: &str = "what is wanted of remembered answers (RFC 9111): no-store, no-cache, only-if-cached (504 with the \
                       code not_cached if none is remembered), max-age, min-fresh, max-stale";
const STATUS: &str = "whether the answer is a remembered one (RFC 9211), as `nuke; hit; ttl=48; detail=memory`; only of \
                      models with a cache, and where only-if-cached was asked for";
const AGE: &str = "seconds since a remembered answer was computed";

/// Whether an operation asks a model.
pub(super) fn asks_a_model(method: &str, path: &str) -> bool {
    method == "post"
        && (path.ends_with("/infer") || path.ends_with(":predict") || path.starts_with("/predict/"))
}

/// Adds the headers of its request and of all of its answers.
pub(super) fn describe(operation: &mut Operation) {
    let control = ParameterBuilder::new()
        .name("cache-control")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(CONTROL))
        .schema(Some(text()));
    operation.parameters.get_or_insert_default().push(RefOr::T(control.build()));
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            for (name, schema, description) in [("cache-status", text(), STATUS), ("age", seconds(), AGE)] {
                let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build();
                response.headers.insert(name.to_owned(), RefOr::T(header));
            }
        }
    }
}

fn text() -> RefOr<Schema> {
    RefOr::T(utoipa::schema!(String).build().into())
}

fn seconds() -> RefOr<Schema> {
    RefOr::T(utoipa::schema!(u64).build().into())
}
