package director

import (
	"fmt"
	"net"
	"strconv"
	"testing"

	"uvs/conntrack"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
	"uvs/dataplane/wire/wiretest"
	"uvs/sched"
)

// faultyPicker panics for every third client port.
type faultyPicker struct{ sched.Picker }

func (p faultyPicker) Pick(c *sched.Cursor, f sched.Flow) int {
	if f.ClientPort%3 == 0 {
		panic(fmt.Sprint("picker: port ", f.ClientPort))
	}
	return p.Picker.Pick(c, f)
}

// A panic drops the frame that it was about, and the rest of the batch is treated as ever.
// The fault has the frame. Each frame has one verdict.
func TestFaultEndsOneFrame(t *testing.T) {
	for _, method := range []conntrack.Method{
		conntrack.MethodNAT, conntrack.MethodDR, conntrack.MethodTunnel,
	} {
		for _, ends := range [][2]string{{"10.1.0.2", "10.9.0.1"}, {"fd00:1::2", "fd00:9::1"}} {
			t.Run(fmt.Sprint(method, ends[0]), func(t *testing.T) {
				w := newTestbed(t, method)
				svc, _ := w.table.Services.Get(Endpoint{addr(ends[1]), 80, wire.ProtoTCP})
				svc.Picker = faultyPicker{svc.Picker}
				frames := make([]wire.Frame, MaxBatch)
				for i := range frames {
					frames[i] = in(0, wiretest.Packet{
						TCPFlags: wire.TCPSyn, Dst: endpoint(ends[1], 80), Src: endpoint(ends[0], 3000+i),
					})
				}
				w.dir.Process(w.now, w.table, frames, w.verdicts[:])
				faults := w.dir.Faults()
				for i, v := range w.verdicts {
					faulty := (3000+i)%3 == 0
					if (v == DroppedFault) != faulty || (frames[i].Out == wire.NoPort) != faulty {
						t.Errorf("frame %d: %v, out %d", i, v, frames[i].Out)
					}
					if !faulty {
						continue
					}
					var p wire.Packet
					f := wire.Frame{Buf: faults[0].Frame, End: int32(len(faults[0].Frame))}
					if wire.Parse(&f, &p); p.SrcPort != uint16(3000+i) || faults[0].Step != "decide" ||
						len(faults[0].Stack) == 0 {
						t.Errorf("fault of frame %d: %+v, step %s", i, p, faults[0].Step)
					}
					faults = faults[1:]
				}
				if w.dir.Process(w.now, w.table, nil, nil); len(faults) != 0 || len(w.dir.Faults()) != 0 {
					t.Error("faults are left")
				}
				svc.Picker = svc.Picker.(faultyPicker).Picker
				again := in(0, wiretest.Packet{
					TCPFlags: wire.TCPSyn, Dst: endpoint(ends[1], 80), Src: endpoint(ends[0], 3000),
				})
				if v := w.process(&again); v == DroppedFault || v.Dropped() {
					t.Errorf("the same frame without the fault: %v", v)
				}
			})
		}
	}
}

func endpoint(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// A fault in any step leaves each frame one verdict, and the next batch works.
func TestFaultInAnyStep(t *testing.T) {
	for s := phaseParse; s < phaseOver; s++ {
		t.Run(phaseNames[s], func(t *testing.T) {
			w := newTestbed(t, conntrack.MethodNAT)
			frames := make([]wire.Frame, 4)
			for i := range frames {
				frames[i] = in(0, wiretest.Packet{
					TCPFlags: wire.TCPSyn, Dst: "10.9.0.1:80", Src: fmt.Sprint("10.1.0.2:", 4000+i),
				})
				w.verdicts[i] = NumVerdict
			}
			d := w.dir
			d.now, d.table = w.now, w.table
			d.conns.Begin(w.now)
			d.released.reset()
			d.progress = progress{}
			func() {
				defer d.recoverFault(frames, w.verdicts[:4])
				for i := range frames {
					d.parse(&frames[i], &d.packets[i])
				}
				d.progress.phase = s
				for i := range frames {
					if s > phaseQuery {
						d.buildQuery(&d.packets[i])
					}
					if s > phaseDecide {
						w.verdicts[i] = d.decideAny(&d.packets[i])
					}
				}
				panic("injected")
			}()
			for !d.advance(frames, w.verdicts[:4]) {
			}
			dropped := 0
			for i, v := range w.verdicts[:4] {
				if v == DroppedFault {
					dropped++
				} else if v != ForwardedMasq {
					t.Errorf("frame %d: %v", i, v)
				}
			}
			want := map[phase]int{phaseParse: 1, phaseQuery: 1, phaseDecide: 1, phaseLookup: 4, phaseTag: 4}[s]
			if dropped != want || len(d.Faults()) != 1 || d.Faults()[0].Value != "injected" {
				t.Errorf("%d dropped, want %d; faults %v", dropped, want, d.Faults())
			}
			f := in(0, wiretest.Packet{TCPFlags: wire.TCPSyn, Dst: "10.9.0.1:80", Src: "10.1.0.2:5000"})
			if v := w.process(&f); v != ForwardedMasq {
				t.Errorf("after it: %v", v)
			}
		})
	}
}

// A panic in a helper ends its connection and unlocks the session.
func TestFaultInHelper(t *testing.T) {
	w := newTestbed(t, conntrack.MethodNAT)
	f := in(0, wiretest.Packet{TCPFlags: wire.TCPSyn, Dst: "10.9.0.1:80", Src: "10.1.0.2:5000"})
	w.process(&f)
	d := w.dir
	d.conns.Begin(w.now)
	d.progress = progress{phase: phaseDecide}
	ref := d.queries[0].Ref
	func() {
		defer d.recoverFault([]wire.Frame{f}, w.verdicts[:1])
		number, busy := d.conns.LockNewSession(ref)
		if number == 0 || busy {
			t.Error("no session")
		}
		d.helper.ref, d.helper.locked = ref, number
		panic(helper.Session{})
	}()
	if d.conns.Conn(ref).Live() || d.helper.locked != 0 {
		t.Error("the connection lives, or its session is locked")
	}
	d.conns.End()
	w.now += 10_000
	w.dir.Process(w.now, w.table, nil, nil)
	if n := w.conns.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions in use", n)
	}
}
