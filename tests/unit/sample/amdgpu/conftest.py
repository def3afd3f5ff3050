import pytest

from exporter.sample.sources.amdgpu import AmdDriver
from tests.amdgpu.host import AmdHost


@pytest.fixture
def host(tmp_path):
    return AmdHost(tmp_path)


@pytest.fixture
def opened(host, clock):
    """Return a driver of the host, as it is by then."""
    return lambda: AmdDriver(str(host.sysfs), str(host.procfs), clock)
