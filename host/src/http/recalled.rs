//! What requests and answers say of answers that are remembered.
//!
//! Owns the headers: `cache-control` of a request (RFC 9111), `cache-status` (RFC 9211) and `age` of an answer. gRPC has
//! the same as metadata. Answers of models that remember none have none of them.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::state::AppState;
use crate::auth::Caller;
use crate::cache::{Owner, Story, Visit, Wish};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// A request at the answers that are remembered.
pub(crate) fn visit(state: &AppState, headers: &HeaderMap, caller: &Caller) -> Visit {
    let wish = Wish::read(headers.get_all(header::CACHE_CONTROL).iter().map(HeaderValue::as_bytes));
    let owner = caller.subject().map(|subject| Owner::new(caller.identity().kind.as_str(), subject));
    Visit::new(state.cache(), wish, owner)
}

/// What an answer says.
pub(crate) fn headers(story: &Story) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let status = HeaderValue::try_from(story.status()).ok().map(|value| (CACHE_STATUS, value));
    let age = story.age().map(|age| (header::AGE, HeaderValue::from(age.as_secs())));
    status.into_iter().chain(age)
}
