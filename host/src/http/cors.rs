//! Cross-origin requests: which web pages may ask, and what they are told.
//!
//! Owns the answers to preflights and the headers of all others. Without origins in the configuration it is not in the
//! way of a request at all. What is for operators stays closed to pages of other origins whatever is set here.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::state::AppState;
use crate::error::{Error, ErrorCode};
use axum::response::IntoResponse as _;

/// Which pages may ask for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsRules {
    /// `https://app.example.com`, or `*` for all.
    origins: Vec<String>,
    any_origin: bool,
    methods: HeaderValue,
    headers: HeaderValue,
    max_age: HeaderValue,
}

/// What a page may read of an answer beyond its body.
const EXPOSED: &str = "age, cache-status, inference-header-content-length, ratelimit, ratelimit-policy, retry-after, \
     server-timing, www-authenticate, x-nuke-load-wait-ms, x-nuke-model-version, x-nuke-traffic-arm, x-request-id";
/// How the headers begin in which plugins answer.
const OF_PLUGINS: &str = "nuke-";

/// The names that a page may read, those of the answer's plugin included.
fn exposed(headers: &HeaderMap) -> HeaderValue {
    let of_plugins = headers.keys().map(HeaderName::as_str).filter(|name| name.starts_with(OF_PLUGINS));
    let names = of_plugins.fold(EXPOSED.to_owned(), |names, name| names + ", " + name);
    HeaderValue::try_from(names).unwrap_or(HeaderValue::from_static(EXPOSED))
}

impl CorsRules {
    /// Rules for these origins, methods and request headers; `None` without origins.
    ///
    /// # Errors
    /// A word that no header can carry.
    pub fn new(
        origins: &[String],
        methods: &[String],
        headers: &[String],
        max_age: Duration,
    ) -> Result<Option<Self>, String> {
        if origins.is_empty() {
            return Ok(None);
        }
        let joined = |words: &[String]| {
            HeaderValue::from_str(&words.join(", ")).map_err(|error| format!("server.cors: {error}"))
        };
        Ok(Some(Self {
            any_origin: origins.iter().any(|origin| origin == "*"),
            origins: origins.to_vec(),
            methods: joined(methods)?,
            headers: joined(headers)?,
            max_age: HeaderValue::from(max_age.as_secs()),
        }))
    }

    /// What `access-control-allow-origin` says to this origin, if it may ask.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.any_origin {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    fn preflight(&self, origin: HeaderValue) -> Response {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        response
    }

    fn vary(&self, headers: &mut HeaderMap, names: &'static str) {
        if !self.any_origin {
            headers.append(header::VARY, HeaderValue::from_static(names));
        }
    }
}

/// In front of the routes, where there are rules.
pub(super) async fn share(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let Some(rules) = state.cors() else {
        return next.run(request).await;
    };
    let origin = request.headers().get(header::ORIGIN).cloned();
    let for_operators = is_for_operators(request.uri().path());
    let allowed = origin.as_ref().filter(|_| !for_operators).and_then(|origin| rules.allowed(origin));
    if origin.is_some() && is_preflight(&request) {
        let mut response = match allowed {
            Some(origin) => rules.preflight(origin),
            None => Error::new(
                ErrorCode::PermissionDenied,
                "a web page of this origin may not ask for this (server.cors.origins)",
            )
            .into_response(),
        };
        rules.vary(
            response.headers_mut(),
            "origin, access-control-request-method, access-control-request-headers",
        );
        return response;
    }
    let mut response = next.run(request).await;
    rules.vary(response.headers_mut(), "origin");
    if let Some(origin) = allowed {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = exposed(response.headers());
        response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

const ASKS_METHOD: HeaderName = header::ACCESS_CONTROL_REQUEST_METHOD;

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ASKS_METHOD)
}

/// Their routes refuse other origins themselves; the answer to a preflight must not say otherwise.
fn is_for_operators(path: &str) -> bool {
    ["/admin", "/metrics", "/v2/logging", "/v2/repository/models/"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(origins: &[&str]) -> Option<CorsRules> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let (methods, headers) = (words(&["GET", "POST"]), words(&["authorization", "content-type"]));
        CorsRules::new(&words(origins), &methods, &headers, Duration::from_secs(600)).unwrap()
    }

    #[test]
    fn an_origin_is_compared_whole() {
        assert_eq!(rules(&[]), None);
        let some = rules(&["https://app.example.com", "http://localhost:3000"]).unwrap();
        let allowed = |origin: &'static str| some.allowed(&HeaderValue::from_static(origin));
        assert_eq!(allowed("https://app.example.com").unwrap(), "https://app.example.com");
        for other in [
            "http://app.example.com",
            "https://app.example.com.evil.example",
            "https://app.example.com:8443",
            "https://example.com",
            "null",
            "",
            "*",
        ] {
            assert_eq!(allowed(other), None, "{other}");
        }
        assert_eq!(rules(&["*"]).unwrap().allowed(&HeaderValue::from_static("null")).unwrap(), "*");
    }

    #[test]
    fn a_page_reads_what_the_host_and_the_plugin_say() {
        let mut headers = HeaderMap::new();
        headers.insert("nuke-model-note", HeaderValue::from_static("x"));
        headers.insert("x-secret", HeaderValue::from_static("x"));
        let exposed = exposed(&headers);
        let names: Vec<&str> = exposed.to_str().unwrap().split(", ").collect();
        for name in
            ["ratelimit", "ratelimit-policy", "x-nuke-load-wait-ms", "www-authenticate", "nuke-model-note"]
        {
            assert!(names.contains(&name), "{name}");
        }
        assert!(!names.contains(&"x-secret"));
    }

    #[test]
    fn a_preflight_says_what_is_allowed() {
        let response = rules(&["*"]).unwrap().preflight(HeaderValue::from_static("*"));
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_METHODS], "GET, POST");
        assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS], "authorization, content-type");
        assert_eq!(response.headers()[header::ACCESS_CONTROL_MAX_AGE], "600");
    }
}
