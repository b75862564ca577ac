package critest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// imageSize is what every image is said to take.
const imageSize = 1 << 20

func (s *Server) addImage(name string) *runtimev1.Image {
	sum := sha256.Sum256([]byte(name))
	id := "sha256:" + hex.EncodeToString(sum[:])
	image := &runtimev1.Image{Id: id, Size: imageSize, Spec: &runtimev1.ImageSpec{Image: name}}
	if strings.Contains(name, "@") {
		image.RepoDigests = []string{name}
	} else {
		image.RepoTags = []string{name}
		image.RepoDigests = []string{strings.TrimSuffix(name, ":"+tagOf(name)) + "@" + id}
	}
	s.images[name] = image
	return image
}

func tagOf(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[i+1:]
	}
	return ""
}

// findImage finds by name or id.
func (s *Server) findImage(ref string) *runtimev1.Image {
	if image := s.images[ref]; image != nil {
		return image
	}
	for _, image := range s.images {
		if image.GetId() == ref || slices.Contains(image.GetRepoDigests(), ref) {
			return image
		}
	}
	return nil
}

// ListImages tells what images are present.
func (s *Server) ListImages(ctx context.Context, r *runtimev1.ListImagesRequest) (*runtimev1.ListImagesResponse, error) {
	resp := &runtimev1.ListImagesResponse{}
	err := s.run(ctx, step{op: "ListImages", work: func() error {
		if ref := r.GetFilter().GetImage().GetImage(); ref != "" {
			if image := s.findImage(ref); image != nil {
				resp.Images = append(resp.Images, image)
			}
			return nil
		}
		for _, name := range slices.Sorted(maps.Keys(s.images)) {
			resp.Images = append(resp.Images, s.images[name])
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ImageStatus tells about one image; nothing when it is not present.
func (s *Server) ImageStatus(ctx context.Context, r *runtimev1.ImageStatusRequest) (*runtimev1.ImageStatusResponse, error) {
	resp := &runtimev1.ImageStatusResponse{}
	err := s.run(ctx, step{op: "ImageStatus", key: r.GetImage().GetImage(), work: func() error {
		resp.Image = s.findImage(r.GetImage().GetImage())
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// PullImage makes an image present if Config.Pull lets it.
func (s *Server) PullImage(ctx context.Context, r *runtimev1.PullImageRequest) (*runtimev1.PullImageResponse, error) {
	name := r.GetImage().GetImage()
	var id string
	err := s.run(ctx, step{op: "PullImage", key: name, work: func() error {
		if name == "" {
			return unknown("failed to parse image reference %q: invalid reference format", name)
		}
		if s.config.Pull != nil {
			if err := s.config.Pull(name); err != nil {
				return unknown("failed to pull and unpack image %q: %v", name, err)
			}
		}
		id = s.addImage(name).GetId()
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return &runtimev1.PullImageResponse{ImageRef: id}, nil
}

// RemoveImage removes an image. An unknown one is a removed one; containers keep what they use.
func (s *Server) RemoveImage(ctx context.Context, r *runtimev1.RemoveImageRequest) (*runtimev1.RemoveImageResponse, error) {
	err := s.run(ctx, step{op: "RemoveImage", key: r.GetImage().GetImage(), work: func() error {
		image := s.findImage(r.GetImage().GetImage())
		maps.DeleteFunc(s.images, func(_ string, i *runtimev1.Image) bool { return i == image })
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return &runtimev1.RemoveImageResponse{}, nil
}

// ImageFsInfo tells the space of the images present.
func (s *Server) ImageFsInfo(ctx context.Context, _ *runtimev1.ImageFsInfoRequest) (*runtimev1.ImageFsInfoResponse, error) {
	resp := &runtimev1.ImageFsInfoResponse{}
	err := s.run(ctx, step{op: "ImageFsInfo", work: func() error {
		resp.ImageFilesystems = []*runtimev1.FilesystemUsage{{
			Timestamp:  time.Now().UnixNano(),
			FsId:       &runtimev1.FilesystemIdentifier{Mountpoint: "/"},
			UsedBytes:  &runtimev1.UInt64Value{Value: uint64(len(s.images)) * imageSize},
			InodesUsed: &runtimev1.UInt64Value{Value: uint64(len(s.images))},
		}}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
