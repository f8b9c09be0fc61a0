import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryOneTime;

/**
 * What Curator makes of a server, for tests.
 *
 * <pre>
 * Curator HOSTS USER:PASSWORD|'' WORDS…
 *     lock PATH        waits for an InterProcessMutex, prints "held", and lets go when its input ends
 *     elect PATH ID    waits until its LeaderLatch leads, prints "leads", and lets go when its input ends
 *     leader PATH      prints the id of whom a LeaderLatch takes for the leader
 *     select PATH ID   waits until its LeaderSelector leads, prints "leads", and lets go when its input ends
 *     selected PATH    prints the id of whom a LeaderSelector takes for the leader
 * </pre>
 */
public final class Curator {
    public static void main(String[] words) throws Exception {
        var builder = CuratorFrameworkFactory.builder()
            .connectString(words[0]).sessionTimeoutMs(10_000).connectionTimeoutMs(5_000).retryPolicy(new RetryOneTime(100));
        if (!words[1].isEmpty()) {
            builder.authorization("digest", words[1].getBytes(StandardCharsets.UTF_8));
        }
        try (CuratorFramework client = builder.build()) {
            client.start();
            if (!client.blockUntilConnected(10, TimeUnit.SECONDS)) {
                throw new IllegalStateException("not connected");
            }
            run(client, words[2], words[3], words);
        }
    }

    private static void run(CuratorFramework client, String verb, String path, String[] words) throws Exception {
        switch (verb) {
            case "lock" -> {
                var mutex = new InterProcessMutex(client, path);
                mutex.acquire();
                hold("held");
                mutex.release();
            }
            case "elect" -> {
                try (var latch = new LeaderLatch(client, path, words[4])) {
                    latch.start();
                    latch.await();
                    hold("leads");
                }
            }
            case "leader" -> System.out.println(new LeaderLatch(client, path).getLeader().getId());
            case "select" -> {
                var over = new CountDownLatch(1);
                try (var selector = new LeaderSelector(client, path, new Work(over))) {
                    selector.setId(words[4]);
                    selector.start();
                    over.await();
                }
            }
            case "selected" -> System.out.println(new LeaderSelector(client, path, new Work(null)).getLeader().getId());
            default -> throw new IllegalArgumentException(verb);
        }
    }

    /** Leads until the input ends. */
    private static final class Work extends LeaderSelectorListenerAdapter {
        private final CountDownLatch over;

        Work(CountDownLatch over) {
            this.over = over;
        }

        @Override
        public void takeLeadership(CuratorFramework client) throws Exception {
            hold("leads");
            over.countDown();
        }
    }

    private static void hold(String word) throws Exception {
        System.out.println(word);
        System.in.readAllBytes();
    }
}
