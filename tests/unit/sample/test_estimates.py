"""Estimates of processor and memory energy for machines without counters."""

import pytest

from exporter.data.processors import plain_name
from exporter.errors import ConfigError, Unavailable
from exporter.model.readings import CounterEvent, Device, DeviceKind, Method
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.power_model import (
    CpuInfo,
    CpuPowerModel,
    cpu_power_model,
    dram_power_model,
    parse_cpuinfo,
    read_cpuinfo,
    tdp_watts,
)
from exporter.sample.sources.cpu_estimate import CpuEstimateCollector
from exporter.sample.sources.dram_estimate import DramEstimateCollector

WATTS = CpuPowerModel(1.0, 3.0, "test")
ONE = CpuInfo(model="Xeon", vendor="Intel", threads=2)


S390 = """\
vendor_id       : IBM/S390
# processors    : 4
bogomips per cpu: 3033.00
max thread id   : 0
features\t: esan3 zarch stfle msa ldisp eimm dfp edat etf3eh highgprs te vx sie
cache0          : level=1 type=Data scope=Private size=128K line_size=256 associativity=8
processor 0: version = FF,  identification = 2733E8,  machine = 2964
processor 1: version = FF,  identification = 2733E8,  machine = 2964
processor 2: version = FF,  identification = 2733E8,  machine = 2964
processor 3: version = FF,  identification = 2733E8,  machine = 2964

cpu number      : 0
cpu MHz dynamic : 5000
cpu MHz static  : 5000

cpu number      : 1
cpu MHz dynamic : 5000
cpu MHz static  : 5000
"""
"""prometheus/procfs at 0174b24, cpuinfo_test.go, shortened; so is the next but for its threads."""
ARM = """\
Processor : ARMv7 Processor rev 5 (v7l)
processor : 0
BogoMIPS : 2400.00

processor : 1
BogoMIPS : 2400.00

Features : swp half thumb fastmult vfp edsp thumbee neon vfpv3 tls vfpv4 idiva idivt
CPU implementer : 0x41
CPU architecture: 7
Hardware : sun8i
"""
POWER = """\
processor\t: 0
cpu\t\t: POWER7 (architected), altivec supported
clock\t\t: 3000.000000MHz
revision\t: 2.1 (pvr 003f 0201)

processor\t: 1
cpu\t\t: POWER7 (architected), altivec supported
clock\t\t: 3000.000000MHz
revision\t: 2.1 (pvr 003f 0201)

timebase\t: 512000000
platform\t: pSeries
model\t\t: IBM,8233-E8B
machine\t\t: CHRP IBM,8233-E8B
"""
SPARC = """\
cpu\t\t: TI UltraSparc II  (BlackBird)
fpu\t\t: UltraSparc II integrated FPU
type\t\t: sun4u
ncpus probed\t: 2
ncpus active\t: 2
Cpu0ClkTck\t: 000000001ad31b4f
Cpu2ClkTck\t: 000000001ad31b4f
MMU Type\t: Spitfire
"""
"""Format: show_cpuinfo in arch/sparc/kernel/cpu.c of Linux."""
CPUINFOS = {
    "s390": (S390, 4),
    "s390 without its total": (S390.replace("# processors", "# other"), 4),
    "arm": (ARM, 2),
    "ppc64": (POWER, 2),
    "sparc64": (SPARC, 2),
}


@pytest.fixture
def estimate(proc, clock):
    def build(cpu=ONE, watts=WATTS):
        sampler = CpuEstimateCollector(proc.root, clock, "boot", cpu, watts)
        built.append(sampler)
        return sampler

    built = []
    yield build
    for sampler in built:
        sampler.release()


def counter(sampler):
    return sampler.read().readings[0].counter_uj


class TestCpuInfo:
    def test_model_vendor_packages_and_threads_are_found(self, proc):
        cpu = read_cpuinfo(proc.root)
        assert cpu == CpuInfo("Intel(R) Xeon(R) Platinum 8480+", "Intel", (0,), 2, 2, guest=False)

    def test_hypervisor_flag_marks_a_guest(self):
        assert parse_cpuinfo("processor : 0\nflags : fpu hypervisor\n").guest

    def test_physical_packages_are_counted_once_each(self):
        text = "".join(f"processor : {n}\nphysical id : {n % 2}\n\n" for n in range(8))
        cpu = parse_cpuinfo(text)
        assert (cpu.packages, cpu.threads, cpu.threads_per_package) == ((0, 1), 8, 4)

    def test_machine_without_package_ids_has_package_zero(self):
        cpu = parse_cpuinfo("processor : 0\nBogoMIPS : 50\n\nprocessor : 1\n")
        assert (cpu.packages, cpu.threads, cpu.model) == ((0,), 2, "")

    @pytest.mark.parametrize(("text", "threads"), CPUINFOS.values(), ids=CPUINFOS)
    def test_processors_of_every_architecture_are_counted(self, text, threads):
        cpu = parse_cpuinfo(text)
        assert (cpu.threads, cpu.threads_per_package, cpu.packages) == (threads, threads, (0,))

    def test_missing_file_gives_the_defaults(self, tmp_path):
        assert read_cpuinfo(str(tmp_path)) == CpuInfo()


class TestCoefficients:
    @pytest.mark.parametrize(
        ("shown", "watts"),
        [
            ("Intel(R) Xeon(R) Platinum 8480+", 350),
            ("Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz", 135),
            ("Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz", 205),
            ("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", 28),
            ("AMD EPYC 7763 64-Core Processor", 280),
            ("AMD Ryzen Threadripper PRO 5995WX 64-Cores", 280),
            ("AMD Ryzen 7 5800H with Radeon Graphics", 45),
        ],
    )
    def test_tdp_is_found_by_the_name_that_the_kernel_shows(self, shown, watts):
        assert tdp_watts(shown) == watts

    @pytest.mark.parametrize("shown", ["", "Intel(R) Xeon(R) Processor", "ACME 1234X"])
    def test_unknown_part_has_no_tdp(self, shown):
        assert tdp_watts(shown) is None

    def test_accelerator_of_the_same_name_is_no_processor(self):
        assert tdp_watts("NVIDIA A100 SXM4 40GB") is None

    def test_name_loses_marks_counts_and_rates(self):
        assert plain_name("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz") == "intel core i7-8700k"

    def test_known_part_draws_its_tdp_over_its_threads(self):
        cpu = CpuInfo(model="AMD EPYC 7763 64-Core Processor", threads=256, threads_per_package=128)
        watts = cpu_power_model(cpu)
        assert watts.full_per_thread == 280 / 128
        assert watts.idle_per_thread == pytest.approx(280 / 128 * 0.74 / 3.5)
        assert "280 W" in watts.basis

    def test_guest_uses_the_published_average(self):
        cpu = CpuInfo(model="AMD EPYC 7763 64-Core Processor", guest=True)
        assert cpu_power_model(cpu)[:2] == (0.74, 3.5)
        assert "Cloud Carbon Footprint" in cpu_power_model(cpu).basis

    def test_unknown_part_uses_the_published_average(self):
        assert cpu_power_model(CpuInfo(model="ACME 1234X"))[:2] == (0.74, 3.5)

    def test_configured_watts_take_precedence(self):
        watts = cpu_power_model(CpuInfo(), 0.5, 2.0)
        assert watts[:2] == (0.5, 2.0)
        assert watts.basis.startswith("configured")

    def test_idle_power_follows_a_configured_full_power(self):
        assert cpu_power_model(CpuInfo(), None, 7.0).idle_per_thread == pytest.approx(1.48)

    def test_idle_above_full_is_refused_by_name(self):
        with pytest.raises(ConfigError, match=r"cpu_idle_watts_per_thread: 9 .* 3\.5"):
            cpu_power_model(CpuInfo(), 9.0)

    def test_dram_is_cited_or_configured(self):
        assert dram_power_model().per_gb == 0.3725
        assert "doi.org" in dram_power_model().basis
        assert dram_power_model(0.2) == (0.2, "configured")


class TestCpuEstimate:
    def test_energy_is_idle_power_of_all_time_and_the_rest_of_busy_time(self, proc, estimate):
        proc.cpu(user=1000, idle=9000)
        assert counter(estimate()) == (100 * 1 + 10 * 2) * 1_000_000

    def test_iowait_counts_as_idle_and_steal_is_ignored(self, proc, estimate):
        proc.cpu(idle=1000, iowait=2000, steal=3000)
        assert counter(estimate()) == 30 * 1_000_000

    def test_other_content_is_unavailable(self, proc, estimate):
        proc.write("stat", "intr 1 2 3 4 5 6 7 8\n")
        with pytest.raises(Unavailable, match="the first line does not contain the CPU times"):
            estimate()

    def test_packages_share_the_energy_evenly(self, estimate):
        readings = estimate(ONE._replace(packages=(0, 1))).read().readings
        assert [reading.device.id for reading in readings] == ["package-0", "package-1"]
        assert {reading.counter_uj for reading in readings} == {60_000_000}

    def test_model_of_the_device_has_the_assumptions(self, estimate):
        (info,) = estimate().infos
        assert info.device == Device(DeviceKind.CPU, "package-0")
        assert info.model == "Xeon (assumed 1.00 to 3.00 W per thread)"
        assert (info.vendor, info.source) == ("Intel", "cpu_estimate")
        assert info.method is Method.ESTIMATED

    def test_counter_never_falls_when_iowait_does(self, proc, estimate):
        sampler = estimate()
        before = counter(sampler)
        proc.cpu(user=1000, idle=8990)
        assert counter(sampler) == before

    def test_counter_continues_when_an_offline_cpu_drops_its_idle_time(self, proc, clock, estimate):
        """github.com/performancecopilot/pcp/issues/1507: 1,180,890 ms of idle become 1,400."""
        sampler, energy_counters = estimate(), EnergyCounters(())
        booked = 0
        for second in range(20):
            forgotten = 118_000 if second > 5 else 0
            proc.cpu(user=200 * second, idle=1_000_000 - forgotten)
            intervals = energy_counters.advance(sampler.read())
            booked += sum(interval.energy_uj for interval in intervals)
            clock.advance(1)
        # One second is lost with the fall, and one is held until the next proves it.
        assert booked >= (19 - 2) * 6_000_000
        assert booked <= 19 * 6_000_000
        assert sampler.read().readings[0].counter_uj < 10_000 * 1_000_000

    @pytest.mark.parametrize("rows", [True, False])
    @pytest.mark.parametrize("changes", [(2, 8), (1, 64), (2, 8, 2, 16)])
    def test_cpus_that_are_added_while_it_runs_are_counted(
        self, proc, clock, estimate, rows, changes
    ):
        sampler, energy_counters = (
            estimate(ONE._replace(threads=changes[0])),
            EnergyCounters(()),
        )
        ticks, booked, expected = 1000, 0, 0
        for cpus in changes:
            for _ in range(10):
                booked += sum(i.energy_uj for i in energy_counters.advance(sampler.read()))
                clock.advance(1)
                ticks += 100 * cpus
                expected += cpus * 3_000_000
                lines = "".join(f"cpu{n} 1 2 3 4 5 6 7\n" for n in range(cpus)) if rows else ""
                proc.write("stat", f"cpu  {ticks} 0 0 9000 0 0 0 0 0 0\n{lines}intr 1 2\n")
        booked += sum(i.energy_uj for i in energy_counters.advance(sampler.read()))
        assert booked == expected
        assert CounterEvent.WRAP not in energy_counters.states(clock.boot, {})[0].events

    def test_cpu_times_that_jump_once_do_not_raise_the_bound(self, proc, clock, estimate):
        sampler, energy_counters = estimate(), EnergyCounters(())
        booked = 0
        for second in range(20):
            jump = 1_000_000_000 if second > 9 else 0
            proc.write("stat", f"cpu  {1000 + 200 * second + jump} 0 0 0 0 0 0 0 0 0\n")
            booked += sum(i.energy_uj for i in energy_counters.advance(sampler.read()))
            clock.advance(1)
        assert 17 * 6_000_000 <= booked <= 19 * 6_000_000

    def test_unchanged_cpu_times_are_reported(self, proc, clock, estimate):
        sampler = estimate()
        clock.advance(21)
        reading = sampler.read().readings[0]
        assert reading.counter_uj is None
        assert "the CPU times have not changed for 21 s" in reading.why
        proc.cpu(user=1200, idle=9000)
        assert counter(sampler) is not None

    def test_implausible_times_are_a_reading_with_a_reason(self, proc, estimate):
        sampler = estimate()
        proc.cpu(user=13337485, idle=8317131874320235395)
        reading = sampler.read().readings[0]
        assert reading.counter_uj is None
        assert "implausible" in reading.why

    def test_other_coefficients_are_another_epoch(self, estimate):
        epochs = {
            estimate(watts=WATTS).read().readings[0].epoch,
            estimate(watts=WATTS._replace(full_per_thread=3.5)).read().readings[0].epoch,
            estimate(ONE._replace(packages=(0, 1))).read().readings[0].epoch,
        }
        assert len(epochs) == 3

    def test_restart_between_two_readings_loses_and_repeats_nothing(self, proc, clock, estimate):
        def intervals_of(restart):
            proc.cpu(user=1000, idle=9000)
            sampler, energy_counters = estimate(), EnergyCounters(())
            energy_counters.advance(sampler.read())
            total = 0
            for step in range(1, 6):
                clock.advance(1)
                proc.cpu(user=1000 + 37 * step, idle=9000 + 163 * step)
                if restart:
                    sampler, energy_counters = (
                        estimate(),
                        EnergyCounters(energy_counters.counter_states()),
                    )
                total += sum(item.energy_uj for item in energy_counters.advance(sampler.read()))
            return total

        assert intervals_of(restart=True) == intervals_of(restart=False) == 13_700_000

    def test_unreadable_file_at_start_is_unavailable(self, tmp_path, clock):
        with pytest.raises(Unavailable, match=r"stat: No such file.*--path\.procfs"):
            CpuEstimateCollector(str(tmp_path), clock, "boot", ONE, WATTS)

    def test_content_lost_later_is_a_reading_with_a_reason(self, proc, estimate):
        sampler = estimate()
        proc.write("stat", "")
        reading = sampler.read().readings[0]
        assert reading.counter_uj is None
        assert "the first line does not contain the CPU times" in reading.why

    def test_released_file_is_opened_again(self, estimate, open_files):
        sampler = estimate()
        before = counter(sampler)
        sampler.release()
        assert open_files() == 0
        assert counter(sampler) == before

    def test_reading_has_the_time_awake(self, clock, estimate):
        clock.suspend(3600)
        reading = estimate().read().readings[0]
        assert (reading.at_ns, reading.awake_ns) == (clock.boot, clock.mono)


class TestDramEstimate:
    def test_energy_is_watts_per_gb_times_size_times_time_since_boot(self, proc, clock):
        sampler = DramEstimateCollector(proc.root, clock, "boot", 0.5)
        gb = 16_000_000 * 1024 / 1e9
        assert counter(sampler) == round(0.5 * gb * 100 * 1e6)

    def test_suspended_time_is_left_out(self, proc, clock):
        sampler = DramEstimateCollector(proc.root, clock, "boot", 0.5)
        before = counter(sampler)
        clock.suspend(3600)
        assert counter(sampler) == before

    def test_another_process_continues_exactly(self, proc, clock):
        first = DramEstimateCollector(proc.root, clock, "boot", 0.5).read()
        second = DramEstimateCollector(proc.root, clock, "boot", 0.5).read()
        assert first == second

    def test_reading_has_the_time_awake(self, proc, clock):
        clock.suspend(3600)
        reading = DramEstimateCollector(proc.root, clock, "boot", 0.5).read().readings[0]
        assert (reading.at_ns, reading.awake_ns) == (clock.boot, clock.mono)

    def test_release_may_come_at_any_time(self, proc, clock):
        sampler = DramEstimateCollector(proc.root, clock, "boot", 0.5)
        before = counter(sampler)
        sampler.release()
        assert counter(sampler) == before

    @pytest.mark.parametrize("kib", [32_000_000, 4_000_000])
    def test_memory_that_is_added_or_taken_away_is_followed(self, proc, clock, kib):
        sampler, energy_counters = (
            DramEstimateCollector(proc.root, clock, "boot", 0.5),
            EnergyCounters(()),
        )
        booked = 0
        for second in range(121):
            booked += sum(item.energy_uj for item in energy_counters.advance(sampler.read()))
            clock.advance(1)
            if second == 50:
                proc.write("meminfo", f"MemTotal: {kib} kB\n")
        before, after = (0.5 * size * 1024 / 1e9 for size in (16_000_000, kib))
        # The size is read each half minute: at 60 s.
        assert booked == pytest.approx((60 * before + 60 * after) * 1e6, abs=100)
        assert f"{kib * 1024 / 1e9:.1f} GB" in sampler.infos[0].model

    def test_last_size_is_used_if_it_cannot_be_read(self, proc, clock):
        sampler = DramEstimateCollector(proc.root, clock, "boot", 0.5)
        proc.write("meminfo", "")
        clock.advance(31)
        assert len(sampler.read().readings) == 1
        assert "16.4 GB" in sampler.infos[0].model

    def test_other_size_or_coefficient_is_another_epoch(self, proc, clock):
        one = DramEstimateCollector(proc.root, clock, "boot", 0.5).read().readings[0].epoch
        two = DramEstimateCollector(proc.root, clock, "boot", 0.4).read().readings[0].epoch
        proc.write("meminfo", "MemTotal: 32000000 kB\n")
        three = DramEstimateCollector(proc.root, clock, "boot", 0.5).read().readings[0].epoch
        assert len({one, two, three}) == 3

    def test_model_of_the_device_has_the_assumptions(self, proc, clock):
        (info,) = DramEstimateCollector(proc.root, clock, "boot", 0.3725).infos
        assert info.device == Device(DeviceKind.DRAM, "package-0-dram")
        assert info.model == "16.4 GB (assumed 0.3725 W per GB)"
        assert info.method is Method.ESTIMATED

    def test_missing_size_is_unavailable(self, proc, clock):
        proc.write("meminfo", "MemFree: 1 kB\n")
        with pytest.raises(Unavailable, match="MemTotal"):
            DramEstimateCollector(proc.root, clock, "boot", 0.5)

    def test_missing_file_is_unavailable(self, tmp_path, clock):
        with pytest.raises(
            Unavailable, match=r"meminfo: No such file or directory; .*--path\.procfs"
        ):
            DramEstimateCollector(str(tmp_path), clock, "boot", 0.5)
