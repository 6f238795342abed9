// Contacts of cylinders with boxes, cylinders and capsules as MuJoCo 3.3.7 searches for them.
//
// The same algorithm as envs_mjx/physics/mjx/collision/mpr.py, which documents it, in double precision and in the same
// order.

#include "contacts.h"

#define TOLERANCE 1e-6    // gain of a support, metres, at which the search ends
#define EXPANSIONS 50     // steps of part 3 beyond which the portal is taken as it is
#define STEPS 150         // of the whole search
#define NO_RADIUS 1e-15   // a direction this close to a cylinder's axis meets the centre of its end
#define FLAT 0.95         // contacts beyond this part of a cylinder's half-length keep the normal of the search
#define ROUND 0.25        // ... and those this much closer to the flat end than to the round wall

// Outermost point of a shape in a direction, both in its frame and from its centre.
typedef void (*Support)(double out[3], const double size[3], const double along[3]);

// Outward normal of the round wall at a point, in the frame of the shape; 0 where it is not used.
typedef int (*Wall)(double out[3], const double size[3], const double local[3]);

typedef struct {
  Shape shape;
  Support support;
  Wall wall;
  double reach;  // radius of a sphere around the centre that holds the shape
} Body;

typedef struct {  // a point of the difference of two shapes
  double v[3];    // a point of the first minus one of the second
  double mid[3];  // halfway between the two
} Corner;

static double sign(double x) { return (x > 0) - (x < 0); }

static void box_support(double out[3], const double size[3], const double along[3]) {
  for (int i = 0; i < 3; i++) out[i] = sign(along[i]) * size[i];
}

// The order of the division and the product decides ties of the search.
static void cylinder_support(double out[3], const double size[3], const double along[3]) {
  double radial = sqrt(along[0] * along[0] + along[1] * along[1]);
  for (int i = 0; i < 2; i++) out[i] = radial > NO_RADIUS ? along[i] / radial * size[0] : 0;
  out[2] = sign(along[2]) * size[1];
}

static void capsule_support(double out[3], const double size[3], const double along[3]) {
  for (int i = 0; i < 3; i++) out[i] = along[i] * size[0];
  out[2] += sign(along[2]) * size[1];
}

static int box_wall(double out[3], const double size[3], const double local[3]) {
  (void)out, (void)size, (void)local;
  return 0;
}

static int cylinder_wall(double out[3], const double size[3], const double local[3]) {
  double radial = sqrt(local[0] * local[0] + local[1] * local[1]);
  double to_end = size[1] - fabs(local[2]), to_wall = fabs(size[0] - radial);
  out[0] = local[0];
  out[1] = local[1];
  out[2] = 0;
  return fabs(local[2]) <= FLAT * size[1] && fabs(to_end) >= ROUND * to_wall;
}

static int capsule_wall(double out[3], const double size[3], const double local[3]) {
  memcpy(out, local, 3 * sizeof(double));
  out[2] -= local[2] < -size[1] ? -size[1] : local[2] > size[1] ? size[1] : local[2];
  return 1;
}

// Support of the difference of two bodies. Both points are taken in the world's frame: ties of the search are decided by
// rounding, and so they are decided as in the recordings.
static Corner find_support(const Body* first, const Body* second, const double along[3]) {
  double local[3], point[3], a[3], b[3];
  const double back[3] = {-along[0], -along[1], -along[2]};
  Corner corner;
  to_local(local, first->shape.mat, along);
  first->support(point, first->shape.size, local);
  to_world(a, first->shape.mat, point);
  to_local(local, second->shape.mat, back);
  second->support(point, second->shape.size, local);
  to_world(b, second->shape.mat, point);
  for (int i = 0; i < 3; i++) {
    a[i] += first->shape.pos[i];
    b[i] += second->shape.pos[i];
    corner.v[i] = a[i] - b[i];
    corner.mid[i] = 0.5 * (a[i] + b[i]);
  }
  return corner;
}

static double triple(const double a[3], const double b[3], const double c[3]) {
  double across[3];
  cross(across, a, b);
  return dot(across, c);
}

// The point inside and the first two corners. 0: the shapes are apart; 1: the search goes on; 2: the ray meets
// corners[1], the outermost point, itself.
static int begin(const Body* first, const Body* second, const double offset[3], Corner corners[4]) {
  double towards[3], across[3], back[3], reach = first->reach + second->reach;
  if (dot(offset, offset) > reach * reach) return 0;
  int concentric = fabs(offset[0]) < EPSILON && fabs(offset[1]) < EPSILON && fabs(offset[2]) < EPSILON;
  for (int i = 0; i < 3; i++) {
    corners[0].v[i] = concentric ? (i == 0 ? 10 * EPSILON : 0) : -offset[i];
    corners[0].mid[i] = 0.5 * (first->shape.pos[i] + second->shape.pos[i]);
    back[i] = -corners[0].v[i];
  }
  unit(towards, back);
  corners[1] = find_support(first, second, towards);
  if (dot(corners[1].v, towards) < EPSILON) return 0;
  cross(across, corners[0].v, corners[1].v);
  if (dot(across, across) < EPSILON) return 2;
  unit(across, across);
  corners[2] = find_support(first, second, across);
  if (dot(corners[2].v, across) < EPSILON) return 0;

  double side_1[3], side_2[3];
  subtract(side_1, corners[1].v, corners[0].v);
  subtract(side_2, corners[2].v, corners[0].v);
  if (triple(side_1, side_2, corners[0].v) > 0) {
    Corner swapped = corners[1];
    corners[1] = corners[2];
    corners[2] = swapped;
  }
  corners[3] = corners[2];
  return 1;
}

// Which corner a new one replaces so that the ray still passes through the portal.
static int replaced(const Corner corners[4], const double new[3]) {
  double across[3];
  cross(across, new, corners[0].v);
  if (dot(corners[1].v, across) > 0) return dot(corners[2].v, across) > 0 ? 1 : 3;
  return dot(corners[3].v, across) > 0 ? 2 : 1;
}

// Move the portal until it is at the surface of the difference; whether the shapes overlap.
static int search(const Body* first, const Body* second, Corner corners[4]) {
  int complete = 0, beyond = 0, expansions = 0;
  for (int step = 0;; step++) {
    double side_1[3], side_2[3], normal[3];
    subtract(side_1, corners[complete ? 2 : 1].v, corners[complete ? 1 : 0].v);
    subtract(side_2, corners[complete ? 3 : 2].v, corners[complete ? 1 : 0].v);
    cross(normal, side_1, side_2);
    unit(normal, normal);
    Corner new = find_support(first, second, normal);
    double height = dot(new.v, normal);
    if (!complete) {  // part 1
      if (height < EPSILON || step >= STEPS) return 0;
      int beside_2 = triple(corners[1].v, new.v, corners[0].v) <= -EPSILON;
      int beside_1 = triple(new.v, corners[2].v, corners[0].v) <= -EPSILON;
      corners[beside_2 ? 2 : beside_1 ? 1 : 3] = new;
      complete = !beside_2 && !beside_1;
      continue;
    }
    double outermost = fmax(dot(corners[1].v, normal), fmax(dot(corners[2].v, normal), dot(corners[3].v, normal)));
    int stuck = height - outermost <= TOLERANCE;
    beyond = beyond || dot(normal, corners[1].v) > -EPSILON;
    if (step >= STEPS || stuck || (beyond ? expansions > EXPANSIONS : height <= -EPSILON)) return beyond;
    corners[replaced(corners, new.v)] = new;
    expansions += beyond;
  }
}

// Point of a segment nearest to the origin.
static void nearest_on(double out[3], const double start[3], const double end[3]) {
  double side[3];
  subtract(side, end, start);
  double length = dot(side, side), part = -dot(start, side) / (length == 0 ? 1 : length);
  part = part < 0 ? 0 : part > 1 ? 1 : part;
  for (int i = 0; i < 3; i++) out[i] = start[i] + part * side[i];
}

// Where the origin lies between the four corners; if they are in one plane, between the three.
static void find_position(const Corner corners[4], const double across[3], const double to_2[3], const double to_3[3],
                          double pos[3]) {
  double along[3], weights[4];
  subtract(along, corners[1].v, corners[0].v);
  int plane = dot(along, across) < EPSILON;
  if (plane) unit(along, across);
  double whole = dot(along, across);
  weights[0] = plane ? 0 : dot(corners[1].v, across);
  weights[2] = dot(along, to_2);
  weights[3] = dot(along, to_3);
  weights[1] = whole - weights[0] - weights[2] - weights[3];
  for (int i = 0; i < 3; i++) {
    pos[i] = 0;
    for (int k = 0; k < 4; k++) pos[i] += weights[k] * corners[k].mid[i] / (whole == 0 ? 1 : whole);
  }
}

// Depth, normal and position from the last portal.
static double measure(const Corner corners[4], double normal[3], double pos[3]) {
  const double *v1 = corners[1].v, *v2 = corners[2].v, *v3 = corners[3].v;
  double side_2[3], side_3[3], across[3], to_2[3], to_3[3], nearest[3], depth;
  subtract(side_2, v2, v1);
  subtract(side_3, v3, v1);
  cross(across, side_2, side_3);
  cross(to_2, side_3, v1);
  cross(to_3, v1, side_2);
  double area = dot(across, across), divisor = area < EPSILON ? 1 : area;
  double part_2 = dot(to_2, across) / divisor, part_3 = dot(to_3, across) / divisor;
  if (area >= EPSILON && part_2 > -EPSILON && part_3 > -EPSILON && part_2 + part_3 <= 1 + EPSILON) {
    unit(normal, across);
    double height = dot(normal, v1);
    depth = fabs(height);
    if (height < 0)
      for (int i = 0; i < 3; i++) normal[i] = -normal[i];
  } else {
    double other[3];
    nearest_on(nearest, v1, v2);
    nearest_on(other, v1, v3);
    if (dot(other, other) < dot(nearest, nearest)) memcpy(nearest, other, sizeof(other));
    nearest_on(other, v2, v3);
    if (dot(other, other) < dot(nearest, nearest)) memcpy(nearest, other, sizeof(other));
    depth = sqrt(dot(nearest, nearest));
    unit(normal, nearest);
  }
  find_position(corners, across, to_2, to_3, pos);
  return depth;
}

// Add the outward normal of the round wall of a body at a position, where it is used.
static int add_wall(const Body* body, const double pos[3], double factor, double sum[3]) {
  double from_centre[3], local[3], wall[3], outwards[3];
  subtract(from_centre, pos, body->shape.pos);
  to_local(local, body->shape.mat, from_centre);
  if (!body->wall(wall, body->shape.size, local)) return 0;
  unit(wall, wall);
  to_world(outwards, body->shape.mat, wall);
  for (int i = 0; i < 3; i++) sum[i] += factor * outwards[i];
  return 1;
}

static int collide(Body first, Body second, Contact* contact) {
  Corner corners[4];
  double offset[3], normal[3], pos[3], depth, sum[3] = {0, 0, 0};
  subtract(offset, second.shape.pos, first.shape.pos);
  int begun = begin(&first, &second, offset, corners);
  if (begun == 0) return 0;
  if (begun == 2) {
    depth = sqrt(dot(corners[1].v, corners[1].v));
    unit(normal, corners[1].v);
    memcpy(pos, corners[1].mid, sizeof(pos));
  } else {
    if (!search(&first, &second, corners)) return 0;
    depth = measure(corners, normal, pos);
  }
  if (depth < EPSILON) return 0;
  int round_1 = add_wall(&first, pos, 1, sum), round_2 = add_wall(&second, pos, -1, sum);
  if (round_1 || round_2) unit(normal, sum);
  set_contact(contact, -depth, pos, normal);
  return 1;
}

static Body box(Shape s) { return (Body){s, box_support, box_wall, sqrt(dot(s.size, s.size))}; }

static Body cylinder(Shape s) {
  return (Body){s, cylinder_support, cylinder_wall, sqrt(square(s.size[0]) + square(s.size[1]))};
}

static Body capsule(Shape s) { return (Body){s, capsule_support, capsule_wall, s.size[0] + s.size[1]}; }

int cylinder_box_contacts(Shape first, Shape second, Contact* contacts) {
  return collide(cylinder(first), box(second), contacts);
}

int cylinder_cylinder_contacts(Shape first, Shape second, Contact* contacts) {
  return collide(cylinder(first), cylinder(second), contacts);
}

int capsule_cylinder_contacts(Shape first, Shape second, Contact* contacts) {
  return collide(capsule(first), cylinder(second), contacts);
}
