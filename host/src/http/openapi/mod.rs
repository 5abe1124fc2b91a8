//! `/openapi.json`, and `/docs`, a page to read it.
//!
//! Owns the document: what the annotations beside the handlers say, put together. A committed copy of it is held equal by
//! a test, and every route of the host is held to be in it.

pub(super) mod cache_schemas;
mod recalled;
pub(super) mod schemas;

use std::sync::LazyLock;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, ResponseBuilder};

use super::state::AppState;
use super::{admin, predict, status, v1, v2};

/// What the annotations say.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Nuke",
        description = "An inference host: the Open Inference Protocol (version 2, and version 1 of KServe and \
                       TensorFlow Serving), any body through a model's plugin, and what operators ask for.",
        license(name = "Apache-2.0")
    ),
    paths(
        predict::predict,
        status::metrics,
        v1::models,
        v1::ready,
        v1::predict,
        v2::describe::server,
        v2::health::live,
        v2::health::ready,
        v2::describe::index,
        v2::describe::models,
        v2::statistics::all,
        v2::describe::model,
        v2::health::model_ready,
        v2::describe::config,
        v2::statistics::model,
        v2::infer::infer,
        admin::nodes::all,
        admin::models::all,
        admin::models::one,
        admin::traffic::show,
        admin::traffic::set,
        admin::traffic::clear,
        admin::traffic::switch,
        admin::traffic::rollout,
        admin::traffic::feedback,
        admin::cache::all,
        admin::cache::one,
        admin::cache::purge_all,
        admin::cache::purge_one,
        admin::control::load,
        admin::control::unload,
        admin::logging::show,
        admin::logging::change,
        document,
        page,
    ),
    components(schemas(schemas::ErrorAnswer, schemas::RolloutAction)),
    tags(
        (name = "v2", description = "the Open Inference Protocol, version 2"),
        (name = "v1", description = "version 1, as KServe and TensorFlow Serving have it"),
        (name = "predict", description = "any body through a model's plugin"),
        (name = "admin", description = "for operators; at server.admin where there is one"),
        (name = "metrics"),
        (name = "document"),
    )
)]
struct Annotations;

/// The same of one version: the path of the model with this in it.
const OF_A_VERSION: [(&str, &str, &str); 3] = [
    ("/v2/models/{model}", "/v2/models/{model}/versions/{version}", ""),
    ("/v1/models/{model}", "/v1/models/{model}/versions/{version}", "/v1/models/{model}/labels/{version}"),
    ("/predict/{model}", "/predict/{model}/{version}", ""),
];

/// The document as JSON.
pub(super) static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut api = Annotations::openapi();
    api.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let mut more = Vec::new();
    for (path, item) in &api.paths.paths {
        for (general, versioned, labelled) in OF_A_VERSION {
            let Some(rest) = path.strip_prefix(general) else { continue };
            more.push((format!("{versioned}{rest}"), of_a_version(item)));
            if !labelled.is_empty() {
                more.push((format!("{labelled}{rest}"), of_a_version(item)));
            }
        }
    }
    api.paths.paths.extend(more);
    for (path, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            operation.operation_id = Some(operation_id(method, path));
            may_fail(operation);
            if recalled::asks_a_model(method, path) {
                recalled::describe(operation);
            }
        }
    }
    let mut text = api.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
});

fn of_a_version(item: &PathItem) -> PathItem {
    let mut item = item.clone();
    for (_, operation) in operations(&mut item) {
        let text = RefOr::T(utoipa::schema!(String).build().into());
        let version = ParameterBuilder::new()
            .name("version")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("a version, a label, or an arm of the model's traffic"))
            .schema(Some(text));
        operation.parameters.get_or_insert_default().push(RefOr::T(version.build()));
    }
    item
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// `get_v2_models_model_ready`: the functions' own names come more than once.
fn operation_id(method: &str, path: &str) -> String {
    let words =
        path.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

/// Every route answers errors in one form.
fn may_fail(operation: &mut Operation) {
    let schema = Ref::from_schema_name("ErrorAnswer");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new()
        .description("an error, with the status of its code")
        .content("application/json", content)
        .build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(response));
}

/// Both routes.
pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/openapi.json", get(document)).route("/docs", get(page))
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "document",
    responses((status = 200, description = "OpenAPI 3.1", body = schemas::Anything))
)]
pub(super) async fn document() -> Response {
    let media = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, media)], DOCUMENT.as_str()).into_response()
}

/// A page to read it.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "document",
    responses((status = 200, description = "a page", body = String, content_type = "text/html; charset=utf-8"))
)]
pub(super) async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, include_str!("page.html")).into_response()
}

/// The page asks no other host, and runs nothing but itself.
const POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Each file with routes.
    const SOURCES: [&str; 5] = [
        include_str!("../router.rs"),
        include_str!("../v1.rs"),
        include_str!("../v2/mod.rs"),
        include_str!("../admin/mod.rs"),
        include_str!("mod.rs"),
    ];

    #[test]
    fn every_route_is_in_the_document_and_no_other() {
        let mark = [".route", "(\""].concat();
        let routes: BTreeSet<&str> = SOURCES
            .iter()
            .flat_map(|text| text.split(&mark).skip(1))
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        let described = document["paths"].as_object().unwrap();
        // What stands behind a colon is part of the route's last parameter; a slash at the end is the same path.
        let plain: BTreeSet<&str> = described.keys().map(|path| path.trim_end_matches(":predict")).collect();
        let routes: BTreeSet<&str> = routes.into_iter().filter(|path| *path != "/v2/").collect();
        assert_eq!(plain, routes);
        assert!(described.len() > 30, "{}", described.len());
    }

    #[test]
    fn the_committed_copy_is_the_document() {
        let committed = include_str!("../../../../docs/openapi.json");
        if committed != DOCUMENT.as_str() {
            let made = std::env::temp_dir().join("openapi.json");
            std::fs::write(&made, DOCUMENT.as_str()).unwrap();
            panic!("docs/openapi.json is not what the code says; copy {} over it", made.display());
        }
    }

    #[test]
    fn what_remembered_answers_are_asked_and_tell_is_said_where_a_model_is_asked() {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        let mut asking = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let asks = recalled::asks_a_model(method, path);
                asking += usize::from(asks);
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let controls = parameters.filter(|parameter| parameter["name"] == "cache-control").count();
                assert_eq!(controls, usize::from(asks), "{method} {path}");
                for (status, answer) in operation["responses"].as_object().unwrap() {
                    for name in ["cache-status", "age"] {
                        let described = answer["headers"][name]["schema"].is_object();
                        assert_eq!(described, asks, "{method} {path} {status} {name}");
                    }
                }
            }
        }
        // Of infer, predict and v1, each of a model and of a version, and one by a label.
        assert_eq!(asking, 7);
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        let operations = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values());
        let names: Vec<_> = operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }
}
