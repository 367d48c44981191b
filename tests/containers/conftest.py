"""The tests with a container engine take a minute and root: only .ci/run asks for them."""

import os

collect_ignore = [] if os.environ.get("GODIS_TEST_CONTAINERS") == "1" else ["test_containers.py"]
