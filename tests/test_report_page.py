"""The report of a study: what it says, that it stands alone, and that a browser draws it."""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest
import studies

from micronet_search import build, cli
from micronet_search.config.candidate import Candidate
from micronet_search.config.network import Input
from micronet_search.config.sweep import Sweep
from micronet_search.report.page import verdict
from micronet_search.report.page.best import by_layer
from micronet_search.report.page.choices import sample
from micronet_search.report.page.facts import Best, Facts, gather, winner
from micronet_search.report.page.front import front
from micronet_search.report.page.health import health
from micronet_search.report.page.known import KNOWN, comparable
from micronet_search.report.page.page import sections, to_page
from micronet_search.report.page.words import duration, listed, short_names
from micronet_search.report.page.write import write
from micronet_search.report.view import View
from micronet_search.scoring.rules import scores
from micronet_search.store.outcome import Epoch, Outcome
from micronet_search.store.paths import Root, StudyFolder
from micronet_search.study.confirmation import Confirmation
from micronet_search.study.history import Draw, History, read_history
from micronet_search.study.survey import survey

WORTH = {"network.stem.width": 0.97, "network.growth_rate": 0.03}
NASTY = "</script><img src=x onerror=alert(1)>"
CHROMIUM = Path("/usr/bin/chromium")


def outcome(accuracy: float, score: float, state: Any = "complete", **more: Any) -> Outcome:
    epochs = 3 if state == "stopped" else 5
    stages = ["fit"] * 3 + ["prune", "quantize"]
    curve = [Epoch(i + 1, stages[i], 1.0, accuracy, 1.0, 10.0 + i) for i in range(epochs)]
    parts = {"parameters": score / 4, "operations": 3 * score / 4, "score": score}
    given: dict[str, Any] = {
        **{"started": 0.0, "ended": 10.0, "device": "cpu", "accuracy": accuracy},
        **{"parameters": 100, "nonzeros": 90, "macs": 1000, "storage_bits": 800},
        "scores": {"imt": parts, "micronet2019": parts},
        "seconds": {"fit": 30.0} if state == "stopped" else {"fit": 60.0, "prune": 40.0},
        "curve": tuple(curve),
    }
    return Outcome(state, **(given | more))


def made(
    outcomes: dict[int, Outcome],
    draws: dict[int, Draw] | None = None,
    confirmations: dict[int, Confirmation] | None = None,
    worth: dict[str, dict[str, float]] | None = None,
    **changes: Any,
) -> Facts:
    """A study that was not run: its sweep is the tests' tiny one, with the goals 0.8 and 0.01."""
    goals = {"objectives__accuracy__at_least": 0.8}
    sweep = Sweep.model_validate(studies.tiny(**goals | changes))
    found = survey(outcomes, sweep.objectives)
    view = View(sweep, StudyFolder(Path("no")), outcomes, (), found, confirmations or {})
    return Facts(view, History(draws or {}, worth or {}), winner(view))


def texts(facts: Facts) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"act": [], "note": [], "well": []}
    for line in health(facts):
        found[line.kind].append(line.text)
    return found


class Tags(HTMLParser):
    """The tags of a page outside of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def thousand() -> Facts:
    rng = random.Random(0)
    outcomes, draws = {}, {}
    rows = tuple(Epoch(i + 1, "fit", 1.0, rng.random(), 1.0, 10.0 + i) for i in range(300))
    for number in range(1000):
        state = rng.choice(["complete", "complete", "stopped", "failed"])
        accuracy, score = rng.uniform(0.6, 0.95), 10 ** rng.uniform(-4, -1.9)
        found = outcome(accuracy, score, state, ended=10.0 + number)
        if state == "complete":
            found = replace(found, curve=rows)
        if state == "failed":
            found = replace(found, accuracy=None, scores={}, reason="lost")
        outcomes[number] = found
        many = {f"network.block.choice{i}": rng.random() for i in range(15)}
        params = {"network.stem.width": rng.choice([4, 8]), "pruning.sparsity": 0.5}
        layers = {"network.layers": rng.choice(["[1,1]", "[2,1]"])}
        draws[number] = Draw(params | layers | many)
    for number in range(1000, 1200):
        draws[number] = Draw({}, "predicted score 0.02, expected at most 0.01", 0.02)
    return made(outcomes, draws, worth=dict.fromkeys(("accuracy", "score"), WORTH))


@pytest.fixture(scope="module")
def large() -> Facts:
    return thousand()


@pytest.fixture(scope="module")
def page(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the study `tiny`, whose files are as they were before."""
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    file = write(Root(finished), "tiny", tmp_path_factory.mktemp("page") / "tiny.html")
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
    return file


# --- the page ---


def test_the_page_needs_nothing_else(page: Path) -> None:
    found = Tags(page.read_text()).found
    links = [value for _, attrs in found for name in ("src", "href") if (value := attrs.get(name))]
    assert links
    assert all(link.startswith("#") for link in links)
    assert "link" not in {tag for tag, _ in found}
    (policy,) = (attrs["content"] for _, attrs in found if "http-equiv" in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert page.stat().st_size < 6e6


def test_the_page_has_a_sentence_below_each_figure(page: Path) -> None:
    text = page.read_text()
    names = [attrs["data-figure"] for _, attrs in Tags(text).found if "data-figure" in attrs]
    data = text.split('<script type="application/json" id="figures">')[1].split("</script>")[0]
    figures = json.loads(data)
    assert list(figures) == names
    assert {"front", "over-trials", "over-time", "spent", "parallel", "curves", "cost"} <= {*names}
    assert text.count("<figcaption>") == len(names)
    assert "<figcaption></figcaption>" not in text
    for figure in figures.values():
        assert any(trace["x"] for trace in figure["data"])


def test_the_figures_are_valid(large: Facts) -> None:
    from plotly import graph_objects

    found = [figure for of in sections(large).values() for figure in of]
    assert len(found) >= 9
    for figure in found:
        tree = json.dumps({"data": figure.traces, "layout": figure.layout})
        for color in ("front", "feasible", "grey", "goal", "win", "known", "ink", "paper", "veil"):
            tree = tree.replace(f'"@{color}"', '"black"')
        assert '"@' not in tree
        graph_objects.Figure(json.loads(tree))
        assert figure.note.endswith(".")


def test_a_thousand_trials_are_few_bytes_and_little_time(large: Facts) -> None:
    begun = time.process_time()
    text = to_page(large)
    assert time.process_time() - begun < 10
    assert len(text.encode()) < 6e6
    assert len(sample(large)) <= 400 + len(large.view.survey.front)


def test_whatever_comes_from_files_is_escaped() -> None:
    facts = made(
        {0: outcome(0.9, 0.005), 1: outcome(0.5, 0.005, "failed", reason=NASTY)},
        {0: Draw({"network.stem.width": NASTY}), 2: Draw({}, NASTY)},
    )
    text = to_page(replace(facts, troubles=(NASTY,)))
    assert NASTY not in text
    assert "<img" not in text.split("<script")[0]
    assert {tag for tag, _ in Tags(text).found} & {"img", "iframe"} == set()


def test_what_cannot_be_read_is_told(finished: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(finished / "studies", tmp_path / "studies")
    folder = Root(tmp_path).study("tiny")
    folder.journal.unlink()
    best = gather(Root(tmp_path), "tiny").best
    assert best is not None
    folder.trial(best.number).model.unlink()
    facts = gather(Root(tmp_path), "tiny")
    assert len(facts.troubles) == 2
    assert facts.best == Best(best.number, confirmed=False, feasible=True)
    assert not folder.journal.exists()
    assert "optuna.journal" in to_page(facts)


@pytest.mark.parametrize(
    ("name", "start"), [("a.svg", b"<?xml"), ("a.pdf", b"%PDF"), ("a.png", b"\x89PNG")]
)
def test_the_command_writes_a_picture(
    finished: Path, tmp_path: Path, name: str, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["report", "tiny", "--root", str(finished), "--to", str(tmp_path / name)]
    monkeypatch.setattr(sys, "argv", ["micronet-search", *options])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert not exit.value.code
    assert (tmp_path / name).read_bytes().startswith(start)


def test_another_ending_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found the ending '.doc', expected one of .html"):
        write(Root(finished), "tiny", tmp_path / "a.doc")


# --- what it says ---


def test_the_winner_is_the_one_that_an_export_ships() -> None:
    outcomes = {0: outcome(0.9, 0.005), 1: outcome(0.85, 0.002), 2: outcome(0.79, 0.001)}
    assert made(outcomes).best == Best(1, confirmed=False, feasible=True)
    sure = Confirmation({1: 0.9, 2: 0.91}, 0, 1000, False)
    unsure = Confirmation({1: 0.78, 2: 0.79}, 0, 1000, False)
    confirmed = made(outcomes, confirmations={0: sure, 1: unsure})
    assert confirmed.best == Best(0, confirmed=True, feasible=True)
    assert verdict.headline(confirmed).startswith("Trial 0 won: its network, 90.50")
    # violations: 0.25 and 0, against 0.05 and 0.1
    missed = {0: outcome(0.6, 0.005), 1: outcome(0.76, 0.011)}
    assert made(missed).best == Best(1, confirmed=False, feasible=False)
    assert made({}).best is None
    assert verdict.headline(made({})) == "No trial is complete yet."


def test_why_it_won() -> None:
    facts = made({0: outcome(0.9, 0.005), 1: outcome(0.85, 0.002), 2: outcome(0.79, 0.001)})
    found = " ".join(verdict.reasons(facts)).replace("\N{NO-BREAK SPACE}", " ")
    assert "the cheapest of 2 feasible trials out of 3 trials" in found
    assert "1 complete trial costs less; the most accurate of them, trial 2, has 79.00 %, " in found
    assert "1.00 points short of the goal" in found
    assert "The next on the front, trial 0, costs 150 % more for 5.00 points" in found


def test_the_layers_of_a_network_add_up_to_its_score() -> None:
    network = {"family": "resnet", "stem": {"width": 8}, "widths": [8, 16], "layers": [1, 1]}
    candidate = Candidate.model_validate(
        {"network": network, "training": {"epochs": 1, "learning_rate": 0.1}}
    )
    cost = build.predict(candidate)
    for rule, score in scores(cost).items():
        found = sum(one.score for _, one in by_layer(cost, rule))
        assert found == pytest.approx(score.score)


def test_known_results_are_those_of_the_same_images_and_rule() -> None:
    cifar = {"dataset": {"name": "parquet", "root": "x"}}
    network = {"family": "resnet", "stem": {"width": 8}, "widths": [8], "layers": [1]}
    tree = {"network": network, "training": {"epochs": 1, "learning_rate": 0.1}}
    candidate = Candidate.model_validate(tree)
    other = candidate.model_copy(update={"input": Input(channels=1)})
    sweep = Sweep.model_validate(studies.tiny(**cifar))
    assert comparable(sweep, candidate) == KNOWN
    assert comparable(sweep, other) == comparable(sweep, None) == ()
    assert comparable(Sweep.model_validate(studies.tiny()), candidate) == ()
    official = studies.tiny(**cifar, objectives__score__rule="micronet2019")
    assert comparable(Sweep.model_validate(official), candidate) == ()
    facts = replace(made({0: outcome(0.9, 0.005)}), known=KNOWN)
    assert "E: PACT ResNet-20, 2 bits" in front(facts).note


def test_words() -> None:
    assert short_names(["a.width", "b.width", "c.one_of"]) == {
        **{"a.width": "a.width", "b.width": "b.width"},
        "c.one_of": "c",
    }
    assert listed("abc") == "a, b and c"
    assert [duration(s) for s in (90, 150, 9000, 200000)] == [
        *("90 seconds", "2.5 minutes"),
        *("2.5 hours", "2.3 days"),
    ]


# --- health ---


def test_nothing_feasible_says_how_far_off() -> None:
    (line, *_) = health(made({0: outcome(0.72, 0.005), 1: outcome(0.5, 0.001)}))
    assert line.kind == "act"
    text = line.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "The closest, trial 0, has 72.00 %" in text
    assert "its accuracy is 8.00 points below 80.00 %" in text
    assert "Lower objectives.accuracy.at_least" in text


def test_a_front_at_the_end_of_a_range_is_told() -> None:
    """Three of four trials on the front have the least growth rate, 4 of 4 to 12."""
    outcomes = {i: outcome(0.81 + 0.01 * i, 0.001 * (i + 1)) for i in range(4)}
    draws = {i: Draw({"network.growth_rate": rate}) for i, rate in enumerate((4, 4, 4, 8))}
    assert len(made(outcomes).view.survey.front) == 4
    (line,) = [text for text in texts(made(outcomes, draws))["act"] if "growth_rate" in text]
    assert line.startswith("3 of the 4 trials on the front have network.growth_rate at its low end")
    assert line.endswith("let it go below 4.")
    inside = {i: Draw({"network.growth_rate": rate}) for i, rate in enumerate((4, 4, 8, 8))}
    assert not any("growth_rate" in text for text in texts(made(outcomes, inside))["act"])


def test_screening_and_stopping_say_what_they_saved() -> None:
    """A complete trial takes 100 seconds, a stopped one 30; two draws were screened by score."""
    outcomes = {0: outcome(0.9, 0.005), 1: outcome(0.7, 0.005, "stopped")}
    outcomes[2] = outcome(0.7, 0.004, "stopped")
    by_score = Draw({}, "predicted score 0.02, expected at most 0.01", 0.02)
    draws = {0: Draw({}), 1: Draw({}), 2: Draw({}), 3: by_score, 4: by_score}
    draws[5] = Draw({}, "the same candidate as trial 0")
    found = " ".join(texts(made(outcomes, draws))["well"]).replace("\N{NO-BREAK SPACE}", " ")
    assert "3 draws of 6 (50 %) were screened: 2 by the predicted score, 1 as duplicates" in found
    assert "saved about 3.3 minutes of training" in found
    # 60 seconds in place of 200, of 300 in all
    assert "took 60 seconds. In full they would have taken about 2.3 minutes more" in found
    assert "saved 47 % of the study's training" in found


def test_choices_that_do_not_matter_are_told_once_enough_is_known() -> None:
    worth = dict.fromkeys(("accuracy", "score"), WORTH)
    outcomes = {i: outcome(0.9, 0.005) for i in range(20)}
    (line,) = [t for t in texts(made(outcomes, worth=worth))["note"] if "worth less" in t]
    assert line.startswith("network.growth_rate is worth less than 5")
    del outcomes[19]
    assert not any("worth less" in t for t in texts(made(outcomes, worth=worth))["note"])


def test_failures_and_confirmation_are_told() -> None:
    failed = outcome(0.5, 0.005, "failed", reason="out of memory")
    facts = made({0: outcome(0.9, 0.005), 1: failed})
    acts = " ".join(texts(facts)["act"])
    assert "1 trial failed; the last, trial 1: out of memory." in acts
    assert "`micronet-search confirm tiny`" in acts
    sure = {0: Confirmation({1: 0.88, 2: 0.88}, 0, 1000, False)}
    well = texts(made({0: outcome(0.9, 0.005)}, confirmations=sure))["well"]
    assert "Trial 0 is confirmed by 2 seeds; its accuracy in the search was 2.00 points above" in (
        " ".join(well)
    )


# --- Optuna's storage ---


@pytest.fixture
def journal(tmp_path: Path) -> StudyFolder:
    """A study of 30 trials whose accuracy follows from `a` alone, and its score from `b`."""
    from optuna.distributions import FloatDistribution
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState, create_trial

    folder = StudyFolder(tmp_path / "tiny")
    folder.path.mkdir()
    storage = JournalStorage(JournalFileBackend(str(folder.journal)))
    study = optuna.create_study(
        study_name="tiny", storage=storage, directions=["maximize", "minimize"]
    )
    rng, space = random.Random(1), {name: FloatDistribution(0, 1) for name in "ab"}
    for _ in range(30):
        params = {name: rng.random() for name in "ab"}
        values = [params["a"], params["b"]]
        study.add_trial(create_trial(params=params, distributions=space, values=values))
    screened = {"screened": "predicted score 0.02, expected at most 0.01"}
    told = {"constraints:score": 1.0}
    study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs=screened, system_attrs=told))
    return folder


def test_the_history_of_a_study(journal: StudyFolder) -> None:
    before = journal.journal.read_bytes()
    history = read_history(journal, Sweep.model_validate(studies.tiny()))
    assert len(history.draws) == 31
    assert history.draws[30] == Draw({}, "predicted score 0.02, expected at most 0.01", 0.02)
    assert history.draws[0].screened is history.draws[0].score is None
    assert history.worth["accuracy"]["a"] > 0.8
    assert history.worth["score"]["b"] > 0.8
    assert journal.journal.read_bytes() == before
    assert [path.name for path in journal.path.iterdir()] == ["optuna.journal"]


def test_the_history_of_a_study_in_a_database(journal: StudyFolder, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    sweep = Sweep.model_validate(studies.tiny(tracking__optuna=url))
    with pytest.raises(ValueError, match=r"tracking\.optuna: expected a storage of Optuna's"):
        read_history(journal, sweep)
    optuna.create_study(study_name="tiny", storage=url, directions=["maximize", "minimize"])
    assert read_history(journal, sweep) == History({}, {})


def test_a_journal_that_is_being_written_is_read(journal: StudyFolder) -> None:
    """The last line is not whole yet, and a lock is held."""
    lock = journal.journal.with_name("optuna.journal.lock")
    lock.symlink_to(journal.journal)
    with open(journal.journal, "ab") as file:
        file.write(b'{"op_code": 4, "work')
    history = read_history(journal, Sweep.model_validate(studies.tiny()))
    assert len(history.draws) == 31
    assert lock.is_symlink()


# --- in a browser ---


def test_a_browser_draws_the_page_offline(large: Facts, page: Path) -> None:
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("Debian's chromium is not installed")
    trouble: list[str] = []
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for width in (1280, 390):
            tab = browser.new_page(viewport={"width": width, "height": 800})
            tab.on("console", lambda message: trouble.append(message.text))
            tab.on("pageerror", lambda error: trouble.append(str(error)))
            tab.on("request", lambda request: trouble.append(request.url))
            tab.goto(page.as_uri(), timeout=120_000)
            tab.wait_for_selector("html[data-drawn]", timeout=120_000)
            drawn = "plot => plot.querySelectorAll('.main-svg path, .main-svg text').length"
            counts = tab.eval_on_selector_all(".plot", f"plots => plots.map({drawn})")
            assert len(counts) >= 9
            assert min(counts) > 0
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            headline = tab.locator(".verdict h2").bounding_box()
            assert headline is not None
            assert headline["y"] + headline["height"] < 800
            tab.close()
        browser.close()
    assert [text for text in trouble if text != page.as_uri()] == []
