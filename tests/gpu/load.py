"""Keeps a GPU busy in bursts, through the CUDA driver's own compiler: no toolkit, no framework.

python -m tests.gpu.load UUID BUSY_SECONDS IDLE_SECONDS TOTAL_SECONDS
"""

import ctypes
import sys
import time

PTX = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry burn(.param .u64 out, .param .u32 rounds)
{
    .reg .f32 %f<6>;
    .reg .u32 %r<3>;
    .reg .u64 %a<3>;
    .reg .pred %p;
    ld.param.u64 %a1, [out];
    ld.param.u32 %r1, [rounds];
    mov.f32 %f1, 0f3F800001;
    mov.f32 %f2, 0f3F7FFFFE;
    mov.f32 %f3, 0f3F000000;
    mov.f32 %f4, 0f3F400000;
    mov.u32 %r2, 0;
again:
    fma.rn.f32 %f1, %f1, %f2, %f3;
    fma.rn.f32 %f3, %f3, %f2, %f4;
    fma.rn.f32 %f4, %f4, %f2, %f1;
    fma.rn.f32 %f1, %f1, %f2, %f4;
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p, %r2, %r1;
    @%p bra again;
    cvta.to.global.u64 %a2, %a1;
    st.global.f32 [%a2], %f1;
    ret;
}
\0"""
BLOCKS, THREADS, ROUNDS = 4096, 256, 20_000


class Burner:
    """A context on one GPU and a kernel that multiplies and adds."""

    def __init__(self, uuid: str) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._call("cuInit", 0)
        context, module = ctypes.c_void_p(), ctypes.c_void_p()
        self._kernel, self._out = ctypes.c_void_p(), ctypes.c_uint64()
        self._call("cuCtxCreate_v2", ctypes.byref(context), 0, self._device(uuid))
        self._call("cuModuleLoadData", ctypes.byref(module), PTX)
        self._call("cuModuleGetFunction", ctypes.byref(self._kernel), module, b"burn")
        self._call("cuMemAlloc_v2", ctypes.byref(self._out), ctypes.c_size_t(4))

    def burn(self, seconds: float) -> None:
        """Work for so long, or a kernel's time longer."""
        rounds = ctypes.c_uint32(ROUNDS)
        values = (ctypes.c_void_p * 2)(
            ctypes.cast(ctypes.byref(self._out), ctypes.c_void_p),
            ctypes.cast(ctypes.byref(rounds), ctypes.c_void_p),
        )
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            shape = (BLOCKS, 1, 1, THREADS, 1, 1)
            self._call("cuLaunchKernel", self._kernel, *shape, 0, None, values, None)
            self._call("cuCtxSynchronize")

    def _device(self, uuid: str) -> ctypes.c_int:
        wanted = bytes.fromhex(uuid.removeprefix("GPU-").replace("-", ""))
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        for ordinal in range(count.value):
            device, found = ctypes.c_int(), (ctypes.c_char * 16)()
            self._call("cuDeviceGet", ctypes.byref(device), ordinal)
            self._call("cuDeviceGetUuid", ctypes.byref(found), device)
            if bytes(found) == wanted:
                return device
        raise SystemExit(f"CUDA shows no device {uuid}")

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code:
            raise SystemExit(f"{name}: CUDA error {code}")


def main(uuid: str, busy: float, idle: float, total: float) -> None:
    """Bursts of `busy` seconds with `idle` between them, until `total` have passed."""
    burner = Burner(uuid)
    print("ready", flush=True)  # noqa: T201  whoever started it waits for this
    until = time.monotonic() + total
    while time.monotonic() < until:
        burner.burn(busy)
        time.sleep(idle)


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:5]))
