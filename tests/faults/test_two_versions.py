"""The main promise while the previous version and this one run side by side (docs/how-to/run-it.md)."""

import pytest
from fault_suite.harm_versions import MATRIX
from fault_suite.previous import NotInHistory, install
from fault_suite.versions import TwoVersions, start_services

__all__ = ["MATRIX"]


@pytest.fixture(scope="session")
def previous(tmp_path_factory):
    """The Python that has the previous version."""
    try:
        return install(tmp_path_factory.mktemp("previous"))
    except NotInHistory as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def two_versions(start_stack, chaos_settings, previous, seed):
    """Two gateways, three processors and two trackers, all of the previous version; new servers for each seed."""
    stack = start_stack("versions", settings=chaos_settings)
    start_services(stack, previous, {"tracker": 2, "processor": 3, "gateway": 2})
    made = TwoVersions(stack, chaos_settings["CHAOS_LEDGER"], previous)
    yield made
    made.close()
    stack.down()


@pytest.mark.timeout(1_200)
def test_no_accepted_job_is_lost_beside_the_previous_version(fault, seed, two_versions, check_fault):
    """In every order of an upgrade or a rollback, and with each service older or newer than the others."""
    check_fault(fault, seed, two_versions)
