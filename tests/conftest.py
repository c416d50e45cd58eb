"""What every test has: helpers are imported from this folder; without TensorFlow the lower house alone is tested."""

import importlib.util
import sys
from pathlib import Path

import hypothesis

# A change is judged by the same examples each time; `pytest --hypothesis-profile=default` looks for new ones.
hypothesis.settings.register_profile("same_each_time", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same_each_time")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

collect_ignore = []
if importlib.util.find_spec("tensorflow") is None:
    collect_ignore = [path.name for path in HERE.glob("test_*.py") if "mark.lower_house" not in path.read_text("utf-8")]
