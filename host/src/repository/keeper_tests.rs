//! The keeper with real models, driven by its handle: commands, hot settings, states.

use std::fs;
use std::path::Path;

use super::super::load::LoaderOptions;
use super::super::signature::TrustedKeys;
use super::super::status::VersionStatus;
use super::*;
use crate::plugin::{EngineOptions, PluginEngine, PluginLimits};
use crate::scheduler::Budget;
use crate::telemetry::Metrics;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/models/tiny/1/model.onnx");

fn loader() -> Arc<Loader> {
    let engine = EngineOptions {
        threads: 1,
        pooling: Some(false),
        memory: 1 << 20,
        compile_cache: None,
        image_files: true,
    };
    Arc::new(Loader {
        runtime: crate::scheduler::testing::runtime(),
        engine: Arc::new(PluginEngine::new(&engine).unwrap()),
        metrics: Metrics::new("test"),
        budget: Budget::new(2),
        given_up: Arc::default(),
        options: LoaderOptions {
            plugins: PathBuf::from("no-such-folder"),
            limits: PluginLimits::default(),
            allow: Vec::new(),
            files: 1 << 20,
            keys: TrustedKeys::default(),
            validation: None,
        },
    })
}

struct Host {
    folder: tempfile::TempDir,
    index: Arc<ModelIndex>,
    metrics: Arc<Metrics>,
    handle: KeeperHandle,
}

impl Host {
    /// A host for the folder `models`, with version 1 of `tiny` in it, once that serves.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        drop_in(folder.path(), "models/tiny/1", &fs::read(TINY).unwrap());
        let decisions = Arc::default();
        let (loader, index) = (loader(), Arc::new(ModelIndex::new(Arc::clone(&decisions))));
        let options = KeeperOptions {
            models: folder.path().join("models"),
            listed: Vec::new(),
            rescan: Duration::from_millis(200),
            quiet: Duration::from_millis(50),
            drain: Duration::from_millis(100),
            watch: Watch::Poll,
            decisions,
        };
        let metrics = Arc::clone(&loader.metrics);
        let keeper = Keeper::open(loader, Arc::clone(&index), options).unwrap();
        let handle = keeper.handle();
        tokio::spawn(keeper.run(|_, _| ()));
        let host = Self { folder, index, metrics, handle };
        assert_eq!(host.handle.refresh("tiny").await, Ok(vec!["1".to_owned()]));
        host
    }

    fn path(&self, place: &str) -> PathBuf {
        self.folder.path().join(place)
    }

    fn generation(&self) -> Arc<Generation> {
        self.index.find("tiny", None).unwrap()
    }

    fn status(&self, version: &str) -> Option<VersionStatus> {
        let all = self.index.all();
        let versions = all.get("tiny")?;
        versions.versions.iter().find(|(name, _)| name == version).map(|(_, status)| status.clone())
    }

    async fn until(&self, version: &str, state: &str) {
        while self.status(version).map_or("gone", |status| status.as_str()) != state {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn metrics(&self) -> String {
        self.metrics.encode(|| ()).unwrap()
    }
}

fn drop_in(folder: &Path, place: &str, model: &[u8]) {
    let (fresh, place) = (folder.join("fresh"), folder.join(place));
    fs::create_dir_all(&fresh).unwrap();
    fs::write(fresh.join("model.onnx"), model).unwrap();
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    if place.exists() {
        fs::rename(&place, folder.join(format!("old-{}", fs::read_dir(folder).unwrap().count()))).unwrap();
    }
    fs::rename(fresh, place).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_applied_to_the_generation_that_serves() {
    let host = Host::start().await;
    let before = host.generation();
    fs::write(
        host.path("models/tiny/model.yaml"),
        "queue: {size: 3, timeout: 1s}\nworkers: {min: 3, max: 3}\n",
    )
    .unwrap();
    assert_eq!(host.handle.refresh("tiny").await, Ok(vec!["1".to_owned()]));
    let after = host.generation();
    assert!(Arc::ptr_eq(&before, &after), "it was loaded anew");
    assert_eq!(after.scheduler().workers(), (3, 0));
    assert_eq!((after.settings().queue.size, after.settings().workers.max), (3, Some(3)));
    fs::write(host.path("models/tiny/model.yaml"), "workers: {max: 1}\nversions: all\n").unwrap();
    assert!(host.handle.refresh("tiny").await.is_ok());
    assert!(Arc::ptr_eq(&before, &host.generation()));
    assert_eq!((after.scheduler().workers(), after.settings().queue.size), ((1, 0), 1024));
    assert!(
        host.metrics().contains("nuke_swaps_total{model=\"tiny\",outcome=\"ok\"} 1\n"),
        "{}",
        host.metrics()
    );
    // What was warmed up otherwise is another generation.
    fs::write(host.path("models/tiny/model.yaml"), "warmup: {batch_sizes: [1, 2]}\n").unwrap();
    assert!(host.handle.refresh("tiny").await.is_ok());
    assert!(!Arc::ptr_eq(&before, &host.generation()));
    // Settings that cannot be read change nothing but what is told.
    let before = host.generation();
    fs::write(host.path("models/tiny/model.yaml"), "workers: {max: -1}\n").unwrap();
    let refused = host.handle.refresh("tiny").await.unwrap_err();
    assert!(refused.contains("workers.max"), "{refused}");
    assert!(Arc::ptr_eq(&before, &host.generation()));
    assert_eq!(host.status("1").unwrap().as_str(), "outdated");
}

#[tokio::test(flavor = "multi_thread")]
async fn unload_takes_out_load_brings_back_and_drains_are_seen() {
    let host = Host::start().await;
    let (request, weak) = (host.generation(), Arc::downgrade(&host.generation()));
    assert_eq!(host.handle.unload("tiny").await, Ok(()));
    assert!(host.index.find("tiny", None).unwrap_err().message.contains("is being unloaded"));
    let Some(VersionStatus::Draining(draining)) = host.status("1") else {
        panic!("{:?}", host.status("1"));
    };
    assert_eq!(draining.requests(), 1);
    assert!(host.metrics().contains("nuke_model_state{model=\"tiny\",version=\"1\",state=\"draining\"} 1"));
    drop(request);
    host.until("1", "unloaded").await;
    assert_eq!(weak.strong_count(), 0);
    assert!(host.index.find("tiny", None).unwrap_err().message.contains("it was unloaded"));
    assert!(host.handle.refresh("tiny").await.unwrap_err().contains("unloaded"));
    // Changes in its folder do not load it.
    drop_in(host.folder.path(), "models/tiny/2", &fs::read(TINY).unwrap());
    host.until("2", "unloaded").await;
    assert_eq!(host.handle.unload("tiny").await, Ok(()));
    assert_eq!(host.handle.load("tiny").await, Ok(vec!["2".to_owned()]));
    assert_eq!(host.generation().version(), "2");
    assert_eq!(host.handle.load("tiny").await, Ok(vec!["2".to_owned()]));
    assert!(host.metrics().contains("nuke_model_transitions_total{model=\"tiny\",state=\"warming\"} 2\n"));
    // A folder that goes leaves the index.
    fs::rename(host.path("models/tiny/2"), host.path("away")).unwrap();
    host.until("2", "gone").await;
    for wrong in ["other", "", "../tiny", "a/b"] {
        assert!(
            host.handle.load(wrong).await.is_err_and(|reason| reason.contains("there is no model")),
            "{wrong}"
        );
        assert!(host.handle.unload(wrong).await.is_err(), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_says_why_it_failed_and_tries_again() {
    let host = Host::start().await;
    drop_in(host.folder.path(), "models/bad/1", b"no model");
    for _ in 0..3 {
        let reason = host.handle.load("bad").await.unwrap_err();
        assert!(reason.starts_with("version 1: ") && reason.contains("model.onnx"), "{reason}");
    }
    drop_in(host.folder.path(), "models/bad/1", &fs::read(TINY).unwrap());
    assert_eq!(host.handle.load("bad").await, Ok(vec!["1".to_owned()]));
    fs::rename(host.path("models"), host.path("away")).unwrap();
    assert!(host.handle.rescan().await.is_err());
    assert!(host.handle.load("bad").await.unwrap_err().contains("cannot be read"));
    fs::rename(host.path("away"), host.path("models")).unwrap();
    assert_eq!(host.handle.rescan().await, Ok(()));
    assert_eq!(host.handle.load("bad").await, Ok(vec!["1".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_at_the_same_time_end_as_the_last_one_says() {
    let host = Host::start().await;
    for round in 0..10_usize {
        let mut commands = JoinSet::new();
        for number in 0..8_usize {
            let handle = host.handle.clone();
            commands.spawn(async move {
                if (number + round).is_multiple_of(2) {
                    let outcome = handle.load("tiny").await;
                    assert!(
                        outcome.as_ref().is_ok_and(|ready| ready == &["1"]) || outcome.is_err(),
                        "{outcome:?}"
                    );
                } else {
                    assert_eq!(handle.unload("tiny").await, Ok(()));
                }
            });
        }
        // Callers that go away.
        let gone = host.handle.clone();
        drop(tokio::time::timeout(Duration::ZERO, gone.load("tiny")).await);
        commands.join_all().await;
        if round.is_multiple_of(2) {
            assert_eq!(host.handle.load("tiny").await, Ok(vec!["1".to_owned()]));
            assert!(host.index.find("tiny", None).is_ok());
        } else {
            assert_eq!(host.handle.unload("tiny").await, Ok(()));
            assert!(host.index.find("tiny", None).is_err());
        }
    }
    host.until("1", "unloaded").await;
}
