//! The paths for whatever looks whether the server is there.
//!
//! Owns the one list of them, for both protocols: nobody has to say who asks there, no memory has to be left, and plain
//! HTTP is answered at once where the rest is sent to TLS. They tell nothing else. A path is in it whole: what merely
//! begins like one is any other path.

/// Health, as both protocols have it.
const HEALTH: [&str; 6] = [
    "/v2/health/live",
    "/v2/health/ready",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];
const METRICS: &str = "/metrics";

/// Whether a path asks for nothing but whether the server is there.
pub(crate) fn is_health(path: &str) -> bool {
    HEALTH.contains(&path)
}

/// Whether a request is let in though requests fill the memory: a host that is busy is not a host that is dead, and can
/// be looked at. Who may see the metrics is asked all the same.
pub(super) fn needs_no_memory(path: &str) -> bool {
    path == METRICS || is_health(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_open_whole_or_not_at_all() {
        assert!(HEALTH.into_iter().all(|path| is_health(path) && needs_no_memory(path)));
        assert!(needs_no_memory("/metrics") && !is_health("/metrics"));
        for other in [
            "/v2/health/",
            "/v2/health/anything",
            "/v2/health/live/",
            "/v2/health/live/x",
            "/metricsX",
            "/metrics/x",
            "/grpc.health.v1.Health/",
            "/grpc.health.v1.Health/Other",
            "//metrics",
            "",
        ] {
            assert!(!is_health(other) && !needs_no_memory(other), "{other}");
        }
    }
}
