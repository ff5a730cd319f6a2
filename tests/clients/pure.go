// go-libvirt, which speaks the protocol itself: the same calls and events, whatever daemon answers.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

func show(label string, values ...interface{}) {
	for i, value := range values {
		if err, is := value.(libvirt.Error); is {
			values[i] = fmt.Sprintf("%d %s", err.Code, strings.ReplaceAll(err.Message, "%1$s", "%s"))
		}
	}
	fmt.Printf("%s: %v\n", label, values)
}

func main() {
	place := strings.Split(os.Getenv("LIBVIRT_DEFAULT_URI"), "socket=")[1]
	l := libvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(place)))
	show("connect", l.Connect())
	kind, err := l.ConnectGetType()
	show("type", kind, err)
	uri, err := l.ConnectGetUri()
	show("URI", strings.Split(uri, "?")[0], err)
	_, err = l.ConnectGetCapabilities()
	show("capabilities", err)
	text, err := os.ReadFile("little.xml")
	show("text", err)
	domain, err := l.DomainDefineXML(string(text))
	show("define", domain, err)
	_, err = l.DomainLookupByName("nothing")
	show("nothing", err)
	events, err := l.SubscribeEvents(context.Background(), libvirt.DomainEventIDLifecycle, libvirt.OptDomain{})
	show("events", err)
	old, err := l.LifecycleEvents(context.Background())
	show("life", err)
	domains, count, err := l.ConnectListAllDomains(1, libvirt.ConnectListDomainsPersistent)
	show("list", domains, count, err)
	show("start", l.DomainCreate(domain))
	state, reason, err := l.DomainGetState(domain, 0)
	show("state", state, reason, err)
	show("start again", l.DomainCreate(domain))
	show("suspend", l.DomainSuspend(domain))
	show("resume", l.DomainResume(domain))
	xml, err := l.DomainGetXMLDesc(domain, libvirt.DomainXMLInactive)
	show("XML", xml, err)
	stats, err := l.ConnectGetAllDomainStats([]libvirt.Domain{domain}, uint32(libvirt.DomainStatsState|libvirt.DomainStatsVCPU), 0)
	var names []string
	for _, record := range stats {
		for _, param := range record.Params {
			names = append(names, param.Field)
		}
	}
	sort.Strings(names)
	show("statistics", names, err)
	var picture bytes.Buffer
	// It takes what stands for no name as the end.
	_, err = l.DomainScreenshot(domain, &picture, 0, 0)
	show("screenshot", err)
	answer, err := l.QEMUDomainMonitorCommand(domain, `{"execute":"query-status"}`, 0)
	show("monitor", strings.Contains(fmt.Sprint(answer), "running"), err)
	_, err = l.Domains()
	show("domains", err)
	show("destroy", l.DomainDestroy(domain))
	show("undefine", l.DomainUndefineFlags(domain, 0))
	show("gone", l.DomainCreate(domain))
	late := time.After(10 * time.Second)
	for undefined := false; !undefined; {
		select {
		case event := <-events:
			one := event.(*libvirt.DomainEventCallbackLifecycleMsg)
			show("event", one.Msg.Dom.Name, one.Msg.Event, one.Msg.Detail)
			undefined = one.Msg.Event == 1
		case <-late:
			show("event", "waited in vain")
			undefined = true
		}
	}
	show("life", (<-old).Event)
	show("disconnect", l.Disconnect())
}
