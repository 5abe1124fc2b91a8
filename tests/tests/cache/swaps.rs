//! Models, plugins and settings change while their answers are remembered: an old answer never comes back.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use nuke_tests::marks::{self, Marks, Plugins, tiny};
use nuke_tests::{Repository, eventually};

use super::{TINY, host, replace};

/// Random numbers of a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

fn repository(plugins: &Plugins) -> Repository {
    Repository::new()
        .empty_version("tiny", "1")
        .file("model.onnx", tiny(1.0))
        .plugin(plugins.marked(1))
        .bundle_yaml("plugin: plugin.wasm\n")
        .model_yaml("cache: {ttl: 1h, stale: 1h}\n")
}

/// Swaps model, plugin and settings at random while clients ask all the time. Once an answer of a newer content has
/// come, none of an older one may: numbers only grow.
#[test]
fn no_old_answer_comes_after_a_swap() {
    let plugins = Plugins::new();
    let host = host(repository(&plugins));
    let folder = host.repository.models().join("tiny/1");
    let done = AtomicBool::new(false);
    // What has been seen by anybody.
    let (newest_model, newest_plugin) = (AtomicU32::new(1), AtomicU32::new(1));
    let asked = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = host.client();
                while !done.load(SeqCst) {
                    // What was the newest before this request was sent.
                    let before =
                        Marks { model: newest_model.load(SeqCst), plugin: newest_plugin.load(SeqCst) };
                    let prediction = client.post("/predict/tiny", "text/plain", "x").expect(200);
                    let marks = marks::of_prediction(&prediction).unwrap();
                    assert!(
                        marks.model >= before.model && marks.plugin >= before.plugin,
                        "{marks:?} after {before:?}"
                    );
                    newest_model.fetch_max(marks.model, SeqCst);
                    newest_plugin.fetch_max(marks.plugin, SeqCst);
                    let before = newest_model.load(SeqCst);
                    let inferred = client.post(TINY, "application/json", marks::infer_body()).expect(200);
                    let model = marks::whole(marks::factor(&inferred).unwrap()).unwrap();
                    assert!(model >= before, "model {model} after {before}");
                    newest_model.fetch_max(model, SeqCst);
                    asked.fetch_add(2, SeqCst);
                }
            });
        }
        let (mut random, mut model, mut plugin) = (Random(0x9e37_79b9_7f4a_7c15), 1_u32, 1_u32);
        for step in 0..16 {
            match random.below(4) {
                0 => {
                    plugin += 1;
                    replace(&folder.join("plugin.wasm"), &plugins.marked(plugin));
                }
                1 => {
                    (model, plugin) = (model + 1, plugin + 1);
                    replace(&folder.join("model.onnx"), &tiny(model as f32));
                    replace(&folder.join("plugin.wasm"), &plugins.marked(plugin));
                }
                2 => replace(
                    &folder.join("bundle.yaml"),
                    format!("plugin: plugin.wasm\nsettings: {{step: {step}}}\n").as_bytes(),
                ),
                _ => {
                    model += 1;
                    replace(&folder.join("model.onnx"), &tiny(model as f32));
                }
            }
            thread::sleep(Duration::from_millis(random.below(200)));
            if random.below(3) == 0 {
                eventually("the newest answers", || {
                    newest_model.load(SeqCst) == model && newest_plugin.load(SeqCst) == plugin
                });
            }
        }
        eventually("the last one answers", || {
            newest_model.load(SeqCst) == model && newest_plugin.load(SeqCst) == plugin
        });
        done.store(true, SeqCst);
    });
    let hits = host.metrics().sum("nuke_cache_requests_total", &[("outcome", "hit")]);
    assert!(hits > 0.0 && asked.load(SeqCst) > 0, "answers were remembered meanwhile");
}

#[test]
fn what_comes_back_is_remembered_under_its_own_name() {
    let plugins = Plugins::new();
    let host = host(repository(&plugins));
    let folder = host.repository.models().join("tiny/1");
    let answer = || marks::of_prediction(&host.post("/predict/tiny", "text/plain", "x").expect(200)).unwrap();
    assert_eq!(answer(), Marks { model: 1, plugin: 1 });
    for (plugin, settings) in [(2, "a"), (1, "b"), (3, "c"), (1, "d")] {
        replace(&folder.join("plugin.wasm"), &plugins.marked(plugin));
        fs::write(folder.join("note.txt"), settings).unwrap();
        eventually("the other plugin answers", || answer() == Marks { model: 1, plugin });
    }
}
