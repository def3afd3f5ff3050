package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/dynamic-resource-allocation/resourceslice"
	"k8s.io/klog/v2"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// inventory is what the file `--file` says: ids of devices by extended resource, for the device
// plugin, and devices by DRA driver.
type inventory struct {
	Resources map[string][]string             `json:"resources"`
	Drivers   map[string][]resourceapi.Device `json:"drivers"`
}

func devicesCommand() *cobra.Command {
	var file, kubeconfig, node string
	command := &cobra.Command{Use: "devices", RunE: func(command *cobra.Command, _ []string) error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var known inventory
		if err := json.Unmarshal(text, &known); err != nil {
			return err
		}
		failed := make(chan error)
		for resource, ids := range known.Resources {
			go func() { failed <- serveResource(command.Context(), resource, ids) }()
		}
		config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return err
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		for name, devices := range known.Drivers {
			if err := startDriver(command.Context(), client, node, name, devices); err != nil {
				return err
			}
		}
		return <-failed
	}}
	command.Flags().StringVar(&file, "file", "", "inventory (JSON)")
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "credentials of the DRA drivers")
	command.Flags().StringVar(&node, "node", "", "name of the node")
	return command
}

// devicePlugin is one extended resource, whose devices are always healthy.
type devicePlugin struct {
	plugin.UnimplementedDevicePluginServer
	devices []*plugin.Device
}

// serveResource registers a resource, and again whenever the kubelet has removed its socket.
func serveResource(ctx context.Context, resource string, ids []string) error {
	served := &devicePlugin{}
	for _, id := range ids {
		served.devices = append(served.devices, &plugin.Device{ID: id, Health: plugin.Healthy})
	}
	endpoint := "test-" + filepath.Base(resource) + ".sock"
	path := filepath.Join(plugin.DevicePluginPath, endpoint)
	for {
		os.Remove(path)
		listener, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		server := grpc.NewServer()
		plugin.RegisterDevicePluginServer(server, served)
		go server.Serve(listener)
		for register(ctx, resource, endpoint) != nil {
			time.Sleep(200 * time.Millisecond)
		}
		for {
			if _, err := os.Stat(path); err != nil {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		server.Stop()
	}
}

func register(ctx context.Context, resource, endpoint string) error {
	kubelet, err := grpc.NewClient("unix://"+plugin.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer kubelet.Close()
	_, err = plugin.NewRegistrationClient(kubelet).Register(ctx, &plugin.RegisterRequest{
		Version: plugin.Version, Endpoint: endpoint, ResourceName: resource,
	})
	return err
}

func (served *devicePlugin) GetDevicePluginOptions(context.Context, *plugin.Empty) (*plugin.DevicePluginOptions, error) {
	return &plugin.DevicePluginOptions{}, nil
}

func (served *devicePlugin) ListAndWatch(_ *plugin.Empty, stream grpc.ServerStreamingServer[plugin.ListAndWatchResponse]) error {
	if err := stream.Send(&plugin.ListAndWatchResponse{Devices: served.devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (served *devicePlugin) Allocate(_ context.Context, request *plugin.AllocateRequest) (*plugin.AllocateResponse, error) {
	response := &plugin.AllocateResponse{}
	for range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &plugin.ContainerAllocateResponse{})
	}
	return response, nil
}

// driver is a DRA driver, which has nothing to prepare.
type driver struct{ name string }

func startDriver(ctx context.Context, client kubernetes.Interface, node, name string, devices []resourceapi.Device) error {
	for _, directory := range []string{kubeletplugin.KubeletPluginsDir, kubeletplugin.KubeletRegistryDir} {
		if err := os.MkdirAll(filepath.Join(directory, name), 0o755); err != nil {
			return err
		}
	}
	helper, err := kubeletplugin.Start(ctx, &driver{name},
		kubeletplugin.DriverName(name), kubeletplugin.NodeName(node), kubeletplugin.KubeClient(client))
	if err != nil {
		return fmt.Errorf("driver %s: %w", name, err)
	}
	slices := []resourceslice.Slice{{Devices: devices}}
	return helper.PublishResources(ctx, resourceslice.DriverResources{
		Pools: map[string]resourceslice.Pool{node: {Slices: slices}},
	})
}

func (served *driver) PrepareResourceClaims(_ context.Context, claims []*resourceapi.ResourceClaim) (map[types.UID]kubeletplugin.PrepareResult, error) {
	prepared := map[types.UID]kubeletplugin.PrepareResult{}
	for _, claim := range claims {
		result := kubeletplugin.PrepareResult{}
		for _, allocated := range claim.Status.Allocation.Devices.Results {
			if allocated.Driver == served.name {
				result.Devices = append(result.Devices, kubeletplugin.Device{
					Requests: []string{allocated.Request}, PoolName: allocated.Pool, DeviceName: allocated.Device,
				})
			}
		}
		prepared[claim.UID] = result
	}
	return prepared, nil
}

func (served *driver) UnprepareResourceClaims(_ context.Context, claims []kubeletplugin.NamespacedObject) (map[types.UID]error, error) {
	unprepared := map[types.UID]error{}
	for _, claim := range claims {
		unprepared[claim.UID] = nil
	}
	return unprepared, nil
}

func (served *driver) HandleError(_ context.Context, err error, message string) {
	klog.ErrorS(err, message, "driver", served.name)
}
